//! What can be wrong with a configuration; each error is one line that says where and what is allowed.

use std::fmt;

use crate::config::raw::Origin;

/// One mistake in what was typed. Never holds a secret: [`Told`] masks it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is not what its name says.
    #[error("file {path}: {reason}")]
    File {
        /// As it was given.
        path: String,
        /// In the words of the system or of the parser.
        reason: String,
    },
    /// A key of the file that no knob has.
    #[error("file {path}: unknown key `{key}`{}", hint(.nearest))]
    UnknownKey {
        /// As it was given.
        path: String,
        /// With its sections, `listen.http_prot`.
        key: String,
        /// The known name that looks most like it.
        nearest: Option<&'static str>,
    },
    /// One name twice in one file, once flat and once in a section.
    #[error("file {path}: {name} is given twice")]
    GivenTwice {
        /// As it was given.
        path: String,
        /// The name that both mean.
        name: &'static str,
    },
    /// An environment variable that is not text.
    #[error("environment {name}: is not valid UTF-8")]
    NotText {
        /// Its name.
        name: &'static str,
    },
    /// A value that is not of the kind, or out of range.
    #[error("{given}: must be {allowed}")]
    Invalid {
        /// What was given.
        given: Told,
        /// Completes "must be".
        allowed: String,
    },
    /// A value or name whose feature this version lacks, and that would lose something if it were ignored.
    #[error("{given}: {why}")]
    Refused {
        /// What was given.
        given: Told,
        /// What is missing.
        why: &'static str,
    },
    /// Two values that do not go together.
    #[error("{first} with {second}: {rule}")]
    Conflict {
        /// One of them.
        first: Box<Told>,
        /// The other.
        second: Box<Told>,
        /// What must hold.
        rule: &'static str,
    },
    /// A core that this process may not use.
    #[error("{given}: there is no core {core} here; this process may use {usable}")]
    NoSuchCore {
        /// What was given.
        given: Told,
        /// The first one that is missing.
        core: usize,
        /// As a core list.
        usable: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{}`?", name.to_ascii_lowercase()))
}

/// A value as people may see it: `HTTP_PORT=70000 (environment PORT)`, secrets as `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Canonical name.
    pub name: &'static str,
    /// Masked where it is secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.name, self.value, self.origin)
    }
}
