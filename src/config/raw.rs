//! What was typed: file, environment and flags, laid over each other without looking at the values.
//!
//! Owns the order of the sources (file < environment < flags) and of names within one (canonical, then the
//! aliases in their order). Never interprets a value; that is `resolve`.

use std::{ffi::OsString, fmt, path::Path};

use crate::config::{
    error::ConfigError,
    file,
    knobs::{self, Knob},
};

/// A value before its kind is known.
#[derive(Clone, PartialEq, Eq)]
pub enum Typed {
    /// Text: from the environment, a flag, or a quoted value of a file.
    Text(String),
    /// A number or boolean of a file, as text.
    Bare(String),
    /// An array of a file.
    List(Vec<String>),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file, as it was named.
    File(String),
    /// An environment variable: the name that was used, canonical or alias.
    Environment(&'static str),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One value and where it comes from.
#[derive(Clone)]
pub struct Given {
    /// What it is for.
    pub knob: &'static Knob,
    /// 0: given by the canonical name; n: by the n-th alias.
    pub rank: usize,
    /// The value.
    pub typed: Typed,
    /// Where it comes from.
    pub origin: Origin,
}

/// The environment, as data.
#[derive(Clone, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// The process's.
    pub fn read() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// Made of these pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// A variable that is set and not empty: an empty one counts as unset.
    ///
    /// # Errors
    /// Its value is not UTF-8.
    pub fn get(&self, name: &'static str) -> Result<Option<&str>, ConfigError> {
        match self.variables.iter().find(|(known, _)| known == name) {
            None => Ok(None),
            Some((_, value)) => match value.to_str() {
                None => Err(ConfigError::NotText { name }),
                Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            },
        }
    }
}

/// Everything that was typed, at most one value per knob, and what could not be understood on the way.
#[derive(Default)]
pub struct Raw {
    /// In the order of the table.
    pub given: Vec<Given>,
    /// Of reading, all of them.
    pub errors: Vec<ConfigError>,
}

impl Raw {
    /// Lays the three sources over each other; `flags` are knob and value, as typed.
    pub fn collect(
        file: Option<&Path>,
        environment: &Environment,
        flags: Vec<(&'static Knob, String)>,
    ) -> Self {
        let mut errors = Vec::new();
        let mut layers = file.map_or_else(Vec::new, |path| file::read(path, &mut errors));
        layers.extend(from_environment(environment, &mut errors));
        layers.extend(flags.into_iter().map(|(knob, text)| Given {
            knob,
            rank: 0,
            typed: Typed::Text(text),
            origin: Origin::Flag(knob.flag()),
        }));
        let given = knobs::all().filter_map(|(_, knob)| winner(&layers, knob)).cloned().collect();
        Self { given, errors }
    }
}

/// The last source that has the knob; within it, the canonical name, else the first alias.
fn winner<'a>(layers: &'a [Given], knob: &Knob) -> Option<&'a Given> {
    let of_knob = || layers.iter().filter(|given| given.knob.name == knob.name);
    let last = std::mem::discriminant(&of_knob().next_back()?.origin);
    of_knob().filter(|given| std::mem::discriminant(&given.origin) == last).min_by_key(|given| given.rank)
}

fn from_environment(environment: &Environment, errors: &mut Vec<ConfigError>) -> Vec<Given> {
    let mut list = Vec::new();
    for (_, knob) in knobs::all() {
        for (rank, name) in knob.names().enumerate() {
            match environment.get(name) {
                Ok(None) => {}
                Ok(Some(text)) => list.push(Given {
                    knob,
                    rank,
                    typed: Typed::Text(text.to_owned()),
                    origin: Origin::Environment(name),
                }),
                Err(error) => errors.push(error),
            }
        }
    }
    list
}
