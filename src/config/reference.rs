//! The table of knobs as text: README's table and the example file.

use crate::config::{
    kind::Kind,
    knobs::{self, Knob, Section},
};

/// Where README's part begins; the next line is the first of [`table`].
pub const BEGIN: &str = "<!-- knobs -->";
/// Where it ends.
pub const END: &str = "<!-- /knobs -->";

/// README's table, in Markdown.
pub fn table() -> String {
    knobs::sections().iter().map(section_table).collect::<Vec<_>>().join("\n")
}

fn section_table(section: &Section) -> String {
    let mut text = format!("### {} (`[{}]`)\n\n", section.title, section.name);
    let working = section.knobs.iter().any(|knob| knob.kind.has_effect());
    text += if working {
        "| variable | also | meaning | default |\n|---|---|---|---|\n"
    } else {
        "| variable | of | here |\n|---|---|---|\n"
    };
    for knob in section.knobs {
        text += &if working { working_row(knob) } else { other_row(knob) };
    }
    text
}

fn working_row(knob: &Knob) -> String {
    let aliases = knob.aliases.iter().map(|alias| code(alias)).collect::<Vec<_>>().join(", ");
    format!("| {} | {aliases} | {} | {} |\n", code(knob.name), knob.help, default_of(knob))
}

fn other_row(knob: &Knob) -> String {
    let names = knob.names().map(code).collect::<Vec<_>>().join(", ");
    let here = match knob.kind {
        Kind::Later(why) => format!("a warning: {why}"),
        Kind::Ignored(why) => why.to_owned(),
        _ => default_of(knob),
    };
    format!("| {names} | {} | {here} |\n", knob.help)
}

fn default_of(knob: &Knob) -> String {
    match knob.default.strip_prefix('(').and_then(|words| words.strip_suffix(')')) {
        Some(words) => words.to_owned(),
        None => code(knob.default),
    }
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// `config.example.toml`: every knob that has an effect, commented out.
pub fn example() -> String {
    let mut text = String::from(
        "# Everything that can be configured, with its default. Give this file with --config or USHER_CONFIG.\n\
         # The environment wins over this file, and flags over both. YAML (.yaml, .yml) takes the same keys.\n",
    );
    for section in knobs::sections() {
        let working: Vec<&Knob> = section.knobs.iter().filter(|knob| knob.kind.has_effect()).collect();
        if working.is_empty() {
            continue;
        }
        text += &format!("\n# {}\n[{}]\n", section.title, section.name);
        for knob in working {
            text +=
                &format!("# {}\n# {} = {}\n", knob.help, knob.name.to_ascii_lowercase(), example_value(knob));
        }
    }
    text
}

fn example_value(knob: &Knob) -> String {
    let words = knob.default.strip_prefix('(').and_then(|words| words.strip_suffix(')'));
    match (&knob.kind, words) {
        (Kind::List(..), Some(words)) => format!("[]  # {words}"),
        (Kind::Integer(..) | Kind::Port(_), Some(words)) => format!("0  # {words}"),
        (_, Some(words)) => format!("\"\"  # {words}"),
        (Kind::Bool(_) | Kind::Integer(..) | Kind::Port(_), None) => knob.default.to_owned(),
        (_, None) => format!("\"{}\"", knob.default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_table_is_the_knob_table() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once(BEGIN).unwrap();
        let (found, _) = rest.split_once(END).unwrap();
        assert!(found.trim() == table().trim(), "write what `usher reference table` prints into README.md");
    }

    #[test]
    fn the_example_file_is_the_knob_table() {
        let found = include_str!("../../config.example.toml");
        assert!(found == example(), "write what `usher reference example` prints into config.example.toml");
    }
}
