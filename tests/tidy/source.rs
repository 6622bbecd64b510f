//! Reads Rust just well enough to judge it: comments and literals blanked, functions, imports, test regions.

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and the insides of literals blanked; the same lines.
    pub(crate) code: String,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) parameters: usize,
    pub(crate) body_lines: usize,
}

impl File {
    /// The top module that the file belongs to: `hub` for src/hub/rooms.rs.
    pub(crate) fn module(&self) -> Option<String> {
        let rest = self.path.strip_prefix("src/")?;
        Some(rest.split('/').next()?.trim_end_matches(".rs").to_owned())
    }

    /// Top modules named in `crate::…` paths outside tests, with the line.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let tests = self.test_lines();
        for (at, _) in self.code.match_indices("crate::") {
            let line = self.code[..at].matches('\n').count() + 1;
            if tests.contains(&line) {
                continue;
            }
            let rest = &self.code[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(group) => paths.extend(group_heads(group).into_iter().map(|head| (line, head))),
                None => paths.push((line, identifier(rest).to_owned())),
            }
        }
        paths
    }

    /// Lines of code, numbered from 1.
    pub(crate) fn code_lines(&self, tests_too: bool) -> Vec<(usize, String)> {
        let tests = self.test_lines();
        let lines = self.code.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
        lines.filter(|(line, _)| tests_too || !tests.contains(line)).collect()
    }

    /// Whether a comment stands on the line or right above it.
    pub(crate) fn is_explained(&self, line: usize) -> bool {
        let mut lines = self.text.lines().skip(line.saturating_sub(2));
        let above = if line > 1 { lines.next().unwrap_or_default() } else { "" };
        above.trim_start().starts_with("//") || lines.next().is_some_and(|line| line.contains("//"))
    }

    /// Lines of `#[cfg(test)]` items.
    pub(crate) fn test_lines(&self) -> BTreeSet<usize> {
        let mut lines = BTreeSet::new();
        if self.path.ends_with("tests.rs") || self.path.contains("/tests/") {
            lines.extend(1..=self.text.lines().count());
        }
        for (at, _) in self.code.match_indices("#[cfg(test)]") {
            let rest = &self.code[at..];
            let Some(open) = rest.find('{') else { continue };
            if rest.find(';').is_some_and(|end| end < open) {
                continue;
            }
            let body = block(&self.code, at + open);
            let line_of = |byte: usize| self.code[..byte].matches('\n').count() + 1;
            lines.extend(line_of(at)..=line_of(body.end));
        }
        lines
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let before = self.code[..at].chars().next_back();
            let name = identifier(&self.code[at + 3..]);
            if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let mut open = at + 3 + name.len();
            if self.code[open..].starts_with('<') {
                open = generics_end(&self.code, open);
            }
            let list = block(&self.code, open);
            let tail = &self.code[list.end..];
            let Some(end) = tail.find(['{', ';']) else { continue };
            let body_lines = if tail[end..].starts_with('{') {
                let body = block(&self.code, list.end + end);
                self.code[body].matches('\n').count().saturating_sub(1)
            } else {
                0
            };
            let line = self.code[..at].matches('\n').count() + 1;
            let parameters = count_parameters(&self.code[list.start + 1..list.end - 1]);
            functions.push(Function { name: name.to_owned(), line, parameters, body_lines });
        }
        functions
    }
}

/// Behind the `>` that closes the `<` at `open`.
fn generics_end(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (offset, c) in code[open..].char_indices() {
        match c {
            '<' => depth += 1,
            '>' if previous != '-' && previous != '=' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset + 1;
        }
        previous = c;
    }
    code.len()
}

/// Parameters at the top of the list, `self` not counted.
fn count_parameters(list: &str) -> usize {
    let mut depth = 0_i32;
    let mut colons = 0;
    let mut previous = ' ';
    for (at, c) in list.char_indices() {
        match c {
            '(' | '[' | '<' | '{' => depth += 1,
            '>' if previous == '-' || previous == '=' => {}
            ')' | ']' | '>' | '}' => depth -= 1,
            ':' if depth == 0 && previous != ':' && !list[at + 1..].starts_with(':') => colons += 1,
            _ => {}
        }
        previous = c;
    }
    colons
}

/// The first name of each path in a `{a::b, c::{d, e}}` group, after its brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 1;
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if fresh && depth == 1 && c.is_alphabetic() => {
                heads.push(identifier(&group[at..]).to_owned());
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// The range from an opening bracket to behind its match.
fn block(code: &str, open: usize) -> Range<usize> {
    let mut depth = 0_i32;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open..open + offset + c.len_utf8();
        }
    }
    open..code.len()
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Whether `name` stands in the line by itself, not within a longer name.
pub(crate) fn find_word(line: &str, name: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let inner_start = name.starts_with(is_name);
    line.match_indices(name).any(|(at, _)| {
        !(inner_start && line[..at].ends_with(is_name)
            || name.ends_with(is_name) && line[at + name.len()..].starts_with(is_name))
    })
}

/// Replaces comments and the insides of string and character literals by spaces.
pub(crate) fn blank_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, out.chars().next_back());
        let taken = if length == 0 { c.len_utf8() } else { length };
        let (head, tail) = rest.split_at(taken);
        if length == 0 {
            out.push(c);
        } else {
            out.extend(head.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    out
}

/// Bytes of the comment or literal that begins here; 0 when none does.
fn literal_or_comment(rest: &str, previous: Option<char>) -> usize {
    let until =
        |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    let in_name = previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_name);
    if let Some(quoted) = raw {
        let hashes = quoted.len() - quoted.trim_start_matches('#').len();
        if quoted[hashes..].starts_with('"') {
            let start = rest.len() - quoted.len() + hashes + 1;
            return until(start, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if rest.starts_with('"') {
        return escaped_end(rest, '"');
    }
    let is_char = rest.starts_with('\'')
        && (rest.starts_with("'\\") || rest.chars().nth(2).is_some_and(|third| third == '\''));
    if is_char { escaped_end(rest, '\'') } else { 0 }
}

/// Bytes of a literal whose backslashes escape, both quotes included.
fn escaped_end(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Paths below the directories, relative to the package, sorted.
pub(crate) fn files(directories: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(root().join(&directory)) else { continue };
        for entry in entries {
            let path = directory.join(entry.expect("the tree is readable").file_name());
            let skipped = ["target", "node_modules"].iter().any(|name| path.ends_with(name));
            if skipped {
                continue;
            } else if root().join(&path).is_dir() {
                open.push(path);
            } else {
                found.push(path.to_str().expect("paths are UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn rust_files(directories: &[&str]) -> Vec<File> {
    let paths =
        files(directories).into_iter().filter(|path| path.ends_with(".rs") && !path.contains("/generated/"));
    paths
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("the tree is readable");
            let code = blank_out(&text);
            File { path, text, code }
        })
        .collect()
}

#[test]
fn comments_and_literals_are_no_code() {
    let code = blank_out("let a = \"{ // \\\" \"; // unsafe {\nlet b = r#\"}\"# + 'x' as &'a str; /* } */ c");
    assert_eq!(code.split_whitespace().collect::<String>(), "leta=;letb=+as&'astr;c");
}

#[test]
fn functions_are_measured_without_their_literals() {
    let text = concat!(
        "impl A {\n    fn f<T: Fn(u8) -> u8>(&self, a: &[u8], (b, c): (u8, u8)) -> u8 {\n",
        "        '}';\n        1\n    }\n}\n",
    );
    let file = File { path: "src/a.rs".into(), text: text.into(), code: blank_out(text) };
    let found: Vec<_> =
        file.functions().into_iter().map(|f| (f.name, f.line, f.parameters, f.body_lines)).collect();
    assert_eq!(found, [("f".to_owned(), 2, 2, 2)]);
}

#[test]
fn imports_of_tests_do_not_count() {
    let text = "use crate::{ids::{ConnId}, wire};\n#[cfg(test)]\nmod tests {\n    use crate::shard;\n}\n";
    let file = File { path: "src/hub/a.rs".into(), text: text.into(), code: blank_out(text) };
    assert_eq!(file.crate_paths(), [(1, "ids".to_owned()), (1, "wire".to_owned())]);
    assert_eq!(file.module().as_deref(), Some("hub"));
}
