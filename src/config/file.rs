//! The configuration file: TOML or YAML by its name, sections or flat, flattened to known names.
//!
//! A key is its canonical name or an alias in lower case. Sections join (`[tls] cert` is `tls_cert`, and the
//! YAML of a rooms service, `websocket: {limits: {max_connections: 9}}`, is understood), and the section that
//! the table gives a knob may stand above it as a heading (`[listen] http_port`). Anything else is an error.

use std::path::Path;

use serde_json::Value;

use crate::config::{
    error::ConfigError,
    knobs::{self, Found},
    raw::{Given, Origin, Typed},
};

/// Reads the file; what is wrong with it is added to `errors`.
pub fn read(path: &Path, errors: &mut Vec<ConfigError>) -> Vec<Given> {
    let name = path.display().to_string();
    match parse(path) {
        Err(reason) => {
            errors.push(ConfigError::File { path: name, reason });
            Vec::new()
        }
        Ok(root) => {
            let mut flat = Flat { path: name, keys: Vec::new(), given: Vec::new(), errors };
            flat.take(&root);
            flat.given
        }
    }
}

fn parse(path: &Path) -> Result<Value, String> {
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let text = || std::fs::read_to_string(path).map_err(|error| error.to_string());
    match kind {
        "toml" => {
            let text = text()?;
            toml::from_str(&text).map_err(|error| {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                format!("is not valid TOML at line {}: {}", before.matches('\n').count() + 1, error.message())
            })
        }
        "yaml" | "yml" => {
            let text = text()?;
            // A file of comments alone is an empty document, which is no mapping.
            if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
                return Ok(Value::Null);
            }
            serde_saphyr::from_str(&text).map_err(|error| {
                // Its reasons quote tags, anchors and scalars, any of which may be a secret without quotes.
                let place = error.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
                format!("is not valid YAML{place}; text with special characters needs quotes")
            })
        }
        _ => Err("the name must end in .toml, .yaml or .yml".into()),
    }
}

struct Flat<'e> {
    path: String,
    keys: Vec<String>,
    given: Vec<Given>,
    errors: &'e mut Vec<ConfigError>,
}

impl Flat<'_> {
    fn take(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    self.keys.push(key.clone());
                    self.take(value);
                    self.keys.pop();
                }
            }
            Value::Null => self.add(None),
            Value::String(text) if text.is_empty() => self.add(None),
            Value::String(text) => self.add(Some(Typed::Text(text.clone()))),
            Value::Bool(flag) => self.add(Some(Typed::Bare(flag.to_string()))),
            Value::Number(number) => self.add(Some(Typed::Bare(number.to_string()))),
            Value::Array(list) => self.add(Some(Typed::List(list.iter().map(text_of).collect()))),
        }
    }

    /// Adds the value at the present key; `None` is a known key that says nothing.
    fn add(&mut self, typed: Option<Typed>) {
        if self.keys.is_empty() && typed.is_none() {
            return;
        }
        let Some(found) = find(&self.keys) else {
            let key = self.keys.join(".");
            let nearest = self
                .keys
                .last()
                .and_then(|last| knobs::nearest(&self.keys.join("_")).or_else(|| knobs::nearest(last)));
            self.errors.push(ConfigError::UnknownKey { path: self.path.clone(), key, nearest });
            return;
        };
        let Some(typed) = typed else { return };
        let Found { knob, rank } = found;
        if self.given.iter().any(|given| given.knob.name == knob.name && given.rank == rank) {
            let name = knob.names().nth(rank).unwrap_or(knob.name);
            self.errors.push(ConfigError::GivenTwice { path: self.path.clone(), name });
            return;
        }
        self.given.push(Given { knob, rank, typed, origin: Origin::File(self.path.clone()) });
    }
}

fn find(keys: &[String]) -> Option<Found> {
    let joined = |keys: &[String]| keys.join("_").to_ascii_uppercase();
    knobs::find(&joined(keys)).or_else(|| {
        let (heading, rest) = keys.split_first()?;
        let found = knobs::find(&joined(rest))?;
        (knobs::section_of(found.knob) == heading).then_some(found)
    })
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
