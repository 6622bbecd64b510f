//! The house keeps its own rules: layers, sizes, banned names, orphan files, white space.
//!
//! Every rule is a test of its own and prints all its findings as `path:line: what is wrong`. A rule that a
//! finding shows to be wrong is changed here, with the reason; no finding is listed as an exception.

#[path = "tidy/source.rs"]
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use source::{File, Function, blank_out, files, find_word, root, rust_files};

/// What stands in one layer of ARCHITECTURE.md.
struct Layer {
    modules: &'static [&'static str],
    /// Layers that its modules may import, beside what is in their own module.
    may_import: &'static [usize],
}

/// The layer table: the position is the layer's number.
const LAYERS: [Layer; 6] = [
    Layer {
        modules: &[
            "ids",
            "limits",
            "clock",
            "config",
            "metrics",
            "event",
            "line",
            "status",
            "prometheus",
            "handler",
            "identity",
            "log",
            "rate",
        ],
        may_import: &[0],
    },
    Layer { modules: &["wire", "sale", "stream", "auth"], may_import: &[0] },
    Layer { modules: &["hub", "route", "mesh"], may_import: &[0, 1] },
    Layer { modules: &["net", "store", "bus", "amqp", "generated"], may_import: &[0, 1] },
    Layer { modules: &["shard", "control"], may_import: &[0, 1, 2, 3] },
    Layer { modules: &["main", "lib", "topology", "supervisor", "cli"], may_import: &[0, 1, 2, 3, 4, 5] },
];

/// Modules without sockets, `async`, clocks and randomness.
const PURE: [&str; 9] = ["wire", "sale", "stream", "auth", "hub", "route", "event", "line", "rate"];
const IMPURE_NAMES: [&str; 8] =
    ["async fn", ".await", "std::net", "tokio::", "glommio::", "Now::read", "rand::", "std::thread"];

/// A name that may not appear, where it may, and what to use instead.
struct Ban {
    name: &'static str,
    /// Paths that begin so may use it.
    allowed: &'static [&'static str],
    tests_too: bool,
    instead: &'static str,
}

const BANS: [Ban; 13] = [
    Ban {
        name: "Instant::now",
        allowed: &["src/clock.rs"],
        tests_too: true,
        instead: "take `Now` as a parameter",
    },
    Ban {
        name: "SystemTime::now",
        allowed: &["src/clock.rs"],
        tests_too: true,
        instead: "take `Now` as a parameter",
    },
    Ban { name: "thread::sleep", allowed: &[], tests_too: true, instead: "wait for the event itself" },
    Ban {
        name: "time::sleep",
        allowed: &["src/", "tools/"],
        tests_too: true,
        instead: "wait for the event itself",
    },
    Ban {
        name: ".unwrap()",
        allowed: &["benches/", "tests/"],
        tests_too: false,
        instead: "return the error",
    },
    Ban {
        name: "unsafe",
        allowed: &["src/net/descriptors.rs"],
        tests_too: true,
        instead: "rustix or socket2",
    },
    Ban { name: "todo!", allowed: &[], tests_too: true, instead: "the code" },
    Ban { name: "unimplemented!", allowed: &[], tests_too: true, instead: "the code" },
    Ban { name: "dbg!", allowed: &[], tests_too: true, instead: "tracing" },
    Ban { name: "#![allow(", allowed: &[], tests_too: true, instead: "`#[expect(…, reason)]` on the item" },
    Ban { name: "unbounded", allowed: &["tests/"], tests_too: true, instead: "a bound from limits.rs" },
    Ban {
        name: "env::set_var",
        allowed: &[],
        tests_too: true,
        instead: "config/raw.rs reads the environment once",
    },
    Ban { name: "Arc<Mutex", allowed: &[], tests_too: true, instead: "one owner and messages to it" },
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const PARAMETERS_MAX: usize = 5;
const COLUMNS_MAX: usize = 130;

#[test]
fn imports_point_downward() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        let Some(module) = file.module() else { continue };
        let Some(layer) = layer_of(&module) else {
            findings.push(format!("{}: module `{module}` is in no layer of the table", file.path));
            continue;
        };
        for (line, import) in file.crate_paths() {
            let Some(target) = layer_of(&import) else { continue };
            if import != module && !LAYERS[layer].may_import.contains(&target) {
                let path = &file.path;
                findings.push(format!(
                    "{path}:{line}: `{module}` (layer {layer}) imports `{import}` (layer {target})"
                ));
            }
        }
    }
    none(findings);
}

#[test]
fn pure_cores_have_no_sockets_clocks_or_tasks() {
    let mut findings = Vec::new();
    for file in rust_files(&["src"]) {
        if !file.module().is_some_and(|module| PURE.contains(&module.as_str())) {
            continue;
        }
        for (line, code) in file.code_lines(false) {
            for name in IMPURE_NAMES.iter().filter(|name| find_word(&code, name)) {
                findings.push(format!("{}:{line}: `{name}` in a pure core", file.path));
            }
        }
    }
    none(findings);
}

#[test]
fn files_and_functions_stay_small() {
    let mut findings = Vec::new();
    for file in rust_files(&["src", "tests", "tools", "benches", "examples"]) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{}:1: {lines} lines, {FILE_LINES_MAX} at most", file.path));
        }
        for function in file.functions() {
            let Function { name, line, parameters, body_lines } = function;
            if body_lines > FUNCTION_LINES_MAX {
                findings.push(format!(
                    "{}:{line}: `{name}` has {body_lines} lines, {FUNCTION_LINES_MAX} at most",
                    file.path
                ));
            }
            if parameters > PARAMETERS_MAX {
                findings.push(format!(
                    "{}:{line}: `{name}` takes {parameters}, {PARAMETERS_MAX} at most",
                    file.path
                ));
            }
        }
    }
    none(findings);
}

#[test]
fn banned_names_are_absent() {
    let mut findings = Vec::new();
    for file in rust_files(&["src", "tests", "tools", "benches", "examples"]) {
        for ban in BANS.iter().filter(|ban| !ban.allowed.iter().any(|path| file.path.starts_with(path))) {
            for (line, code) in file.code_lines(ban.tests_too) {
                if find_word(&code, ban.name) {
                    findings.push(format!("{}:{line}: `{}`; instead: {}", file.path, ban.name, ban.instead));
                }
            }
        }
        findings.extend(unexplained(&file));
    }
    none(findings);
}

/// `let _ =` needs a reason on the line or right above, `allow` one within; globs are for `use super::*` in tests.
fn unexplained(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let tests = file.test_lines();
    for (line, code) in file.code_lines(true) {
        let path = &file.path;
        if code.contains("let _ =") && !file.is_explained(line) {
            findings.push(format!("{path}:{line}: `let _ =` without a comment that says why"));
        }
        let statement: String =
            file.code.lines().skip(line - 1).take(6).flat_map(|line| [line, " "]).collect::<String>();
        if code.contains("#[allow(") && !statement.split(']').next().unwrap_or_default().contains("reason") {
            findings.push(format!("{path}:{line}: `allow` without `reason`"));
        }
        let in_tests = tests.contains(&line) || file.path.starts_with("tests/");
        if code.trim_start().starts_with("use ")
            && code.contains("::*")
            && !(in_tests && code.contains("super::*"))
        {
            findings.push(format!("{path}:{line}: a glob import hides what is used"));
        }
    }
    for (index, line) in file.text.lines().enumerate() {
        let open = ["TO", "FIX", "X"].iter().zip(["DO", "ME", "XX"]).map(|(a, b)| format!("// {a}{b}"));
        if open.into_iter().any(|mark| line.contains(&mark)) {
            findings.push(format!("{}:{}: left open", file.path, index + 1));
        }
    }
    findings
}

#[test]
fn every_file_is_reachable_from_a_root() {
    let mut reached = BTreeSet::new();
    let roots = ["src/lib.rs", "src/main.rs"];
    let single = rust_files(&["tests", "tools", "benches", "examples"]).into_iter().map(|file| file.path);
    let single = single.filter(|path| path.matches('/').count() == 1 || path.ends_with("/main.rs"));
    for root in roots.into_iter().map(String::from).chain(single) {
        reach(Path::new(&root), &mut reached);
    }
    let mut findings = Vec::new();
    for file in rust_files(&["src", "tests", "tools", "benches", "examples"]) {
        if !reached.contains(Path::new(&file.path)) && !file.path.contains("/generated/") {
            findings.push(format!("{}:1: no `mod` leads here", file.path));
        }
    }
    none(findings);
}

fn reach(path: &Path, reached: &mut BTreeSet<PathBuf>) {
    let Ok(text) = fs::read_to_string(root().join(path)) else { return };
    if !reached.insert(path.to_path_buf()) {
        return;
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let parent = path.parent().expect("a file is in a directory");
    let is_root = matches!(stem, "mod" | "lib" | "main") || parent == Path::new("tests");
    let directory = if is_root { parent.to_path_buf() } else { parent.join(stem) };
    let code = blank_out(&text);
    let previous_lines = [""].into_iter().chain(text.lines().map(str::trim));
    for (line, previous) in code.lines().map(str::trim).zip(previous_lines) {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
        if let Some(path) = previous.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            reach(&parent.join(path), reached);
        }
        reach(&directory.join(format!("{name}.rs")), reached);
        reach(&directory.join(name).join("mod.rs"), reached);
    }
}

#[test]
fn white_space_is_tidy() {
    let mut findings = Vec::new();
    let kinds = ["rs", "toml", "md", "py", "js", "mjs", "html", "proto", "json", "sh", "yml"];
    for path in files(&["src", "tests", "tools", "benches", "examples", "proto", "perf", ".ci"]) {
        let kind = path.rsplit('.').next().unwrap_or_default();
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        if !kinds.contains(&kind) || path.contains("/generated/") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            if line.contains('\t') || line.ends_with([' ', '\r']) {
                findings.push(format!("{path}:{line_number}: a tab, or white space at the end"));
            }
            // A long literal cannot be broken without harm; what stands around it counts. Nor can a row of a table.
            let columns = line.chars().count() - literal_columns(line);
            let is_table = ["//! |", "/// |"].iter().any(|row| line.trim_start().starts_with(row));
            if kind == "rs" && columns > COLUMNS_MAX && !is_table {
                findings.push(format!("{path}:{line_number}: more than {COLUMNS_MAX} columns"));
            }
        }
    }
    none(findings);
}

/// Columns between the first and the last quotation mark.
fn literal_columns(line: &str) -> usize {
    match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) => line[first..last].chars().count(),
        _ => 0,
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.modules.contains(&module))
}

fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
