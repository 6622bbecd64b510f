//! What the host should be set to: `usher check --settings` knows, `tools/tune-host` does it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// So many that every host lacks something.
const CONNECTIONS: &str = "100000000";

/// Columns of `usher check --settings`.
fn wanted() -> Vec<Vec<String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(["check", "--settings", "--ws-max-connections", CONNECTIONS])
        .output()
        .expect("the binary was built");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn tune(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/tune-host");
    let output = Command::new(script)
        .args(["--usher", env!("CARGO_BIN_EXE_usher"), "--connections", CONNECTIONS])
        .args(arguments)
        .output()
        .expect("bash is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Every file below a directory, with what is in it.
fn files(directory: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.display().to_string(), fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn what_is_wanted_of_the_host_is_a_table() {
    let wanted = wanted();
    for row in &wanted {
        assert!(row.len() == 5 && ["sysctl", "limit", "file"].contains(&&*row[0]), "{row:?}");
    }
    assert!(wanted.iter().any(|row| row[1] == "net.ipv4.tcp_mem" && row[2] != row[3]), "{wanted:?}");
}

#[test]
fn tuning_shows_all_that_is_wanted_and_changes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let text = tune(&["--root", &root.path().display().to_string()]);
    for row in wanted() {
        assert!(text.contains(&row[1]) && text.contains(&row[4]), "{row:?}\n{text}");
    }
    assert!(text.contains("nothing was changed"), "{text}");
    assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 0);
}

#[test]
fn tuning_sets_what_is_short_and_the_second_time_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let path = |row: &Vec<String>| match &*row[0] {
        "sysctl" => Some(root.path().join("proc/sys").join(row[1].replace('.', "/"))),
        "file" => Some(root.path().join(row[1].trim_start_matches('/'))),
        _ => None,
    };
    let wanted = wanted();
    for path in wanted.iter().filter_map(path) {
        fs::create_dir_all(path.parent().expect("a file of a directory")).expect("a directory");
        fs::write(path, "as it was").expect("a file");
    }
    let arguments = ["--apply", "--root", &root.path().display().to_string()];
    let text = tune(&arguments);
    assert!(text.contains("written"), "{text}");
    for row in &wanted {
        let Some(path) = path(row) else { continue };
        let expected = if row[2] == row[3] { "as it was" } else { &row[3] };
        assert_eq!(fs::read_to_string(path).expect("a file").trim(), expected, "{row:?}");
    }
    let kept = root.path().join("etc/sysctl.d/90-usher.conf");
    let kept = fs::read_to_string(kept).expect("it was written");
    for row in wanted.iter().filter(|row| row[0] == "sysctl") {
        assert!(kept.contains(&format!("{} = {}", row[1], row[3])), "{row:?}\n{kept}");
    }
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    files(root.path(), &mut before);
    assert!(!tune(&arguments).contains("written"));
    files(root.path(), &mut after);
    assert_eq!(before, after);
}
