//! The table of everything that can be configured, and how a name is found in it.
//!
//! Owns every name, alias, default, bound, one-line meaning and destination. The text of a default in brackets
//! is for people; any other is a value, and a test holds it to [`crate::config::Settings::default`].

use crate::config::{kind::Kind, knobs::table::SECTIONS};

mod absent;
mod checks;
mod listen;
mod passes;
mod presence;
mod queues;
mod redis;
mod table;

/// Knobs that belong together, under one heading in `--help`, README and the file.
#[derive(Debug)]
pub struct Section {
    /// The section of the file.
    pub name: &'static str,
    /// The heading for people.
    pub title: &'static str,
    /// In the order in which they are shown.
    pub knobs: &'static [Knob],
}

/// One thing that can be configured.
#[derive(Debug)]
pub struct Knob {
    /// The canonical name, as an environment variable.
    pub name: &'static str,
    /// Names of the services that Usher replaces, the first of those that are set wins (03 §13).
    pub aliases: &'static [&'static str],
    /// What it takes and where it goes.
    pub kind: Kind,
    /// The value without it, or words in brackets.
    pub default: &'static str,
    /// One line.
    pub help: &'static str,
    /// Whether its value is masked wherever it is shown.
    pub secret: bool,
}

impl Knob {
    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

impl Knob {
    /// The canonical name and its aliases, in the order in which they win.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// `--http-port`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.to_ascii_lowercase().replace('_', "-"))
    }

    /// A value as people may see it: masked where secret, and without the credentials and query of a URL.
    pub fn masked(&self, value: &str) -> String {
        if self.secret {
            return "***".into();
        }
        let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
        // The last `@` of all, since a password may hold any character that ends an authority.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
        format!("{scheme}://{user}{rest}{query}")
    }
}

/// A name that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Whose it is.
    pub knob: &'static Knob,
    /// 0: the canonical name; n: the n-th alias.
    pub rank: usize,
}

/// The whole table, in order.
pub fn sections() -> &'static [Section] {
    SECTIONS
}

/// Every knob with its section, in order.
pub fn all() -> impl Iterator<Item = (&'static Section, &'static Knob)> {
    SECTIONS.iter().flat_map(|section| section.knobs.iter().map(move |knob| (section, knob)))
}

/// The knob with that canonical name or alias, in upper case.
pub fn find(name: &str) -> Option<Found> {
    all().find_map(|(_, knob)| {
        let rank = knob.names().position(|known| known == name)?;
        Some(Found { knob, rank })
    })
}

/// The section of the file that the knob stands in.
pub fn section_of(knob: &Knob) -> &'static str {
    all().find(|(_, known)| known.name == knob.name).map_or("", |(section, _)| section.name)
}

/// The known name that looks most like this one, if any looks like it at all.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let distances = all().flat_map(|(_, knob)| knob.names()).map(|known| (distance(&name, known), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3)).then_some(known)
}

/// How many characters must be changed, added or removed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, known) in other.iter().enumerate() {
            let change = diagonal + usize::from(character != *known);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{draft::Draft, raw::Typed};

    #[test]
    fn no_name_means_two_things() {
        let mut seen = HashSet::new();
        for name in all().flat_map(|(_, knob)| knob.names()) {
            assert!(seen.insert(name), "{name}");
        }
    }

    #[test]
    fn every_default_of_the_table_is_the_default_of_the_settings() {
        for (_, knob) in all().filter(|(_, knob)| knob.kind.has_effect() && !knob.default.starts_with('(')) {
            let mut draft = Draft::default();
            let shown = knob.kind.apply(&Typed::Text(knob.default.into()), &mut draft);
            assert_eq!(shown.as_deref(), Ok(knob.default), "{}", knob.name);
            assert_eq!(format!("{draft:?}"), format!("{:?}", Draft::default()), "{}", knob.name);
        }
    }

    #[test]
    fn help_is_one_short_line() {
        for (_, knob) in all() {
            assert!(!knob.help.is_empty() && knob.help.len() <= 110, "{}", knob.name);
            assert!(!knob.help.ends_with('.') && !knob.help.contains(['\n', '|']), "{}", knob.name);
        }
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        for (typed, expected) in [
            ("http_prot", Some("HTTP_PORT")),
            ("WS_PING_INTERVALL", Some("WS_PING_INTERVAL")),
            ("jwt_secrets", Some("JWT_SECRET")),
            ("colour_of_the_curtains", None),
        ] {
            assert_eq!(nearest(typed), expected, "{typed}");
        }
    }

    #[test]
    fn credentials_of_a_url_are_masked() {
        let knob = find("JWT_JWKS_URL").unwrap().knob;
        let rows = [
            ("https://a.example/keys", "https://a.example/keys"),
            ("https://me:pa@ss@a.example/keys?key=1", "https://***@a.example/keys?***"),
            ("https://me:p/a?s@a.example/keys", "https://***@a.example/keys"),
            ("https://a.example", "https://a.example"),
        ];
        for (value, shown) in rows {
            assert_eq!(knob.masked(value), shown);
        }
    }
}
