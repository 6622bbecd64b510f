//! The kinds of values: how each is read, what it allows, how it is shown, and where it goes.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::config::{
    draft::Draft,
    duration::{self, Plain},
    raw::Typed,
};

/// Puts a value where it belongs.
pub type Set<T> = fn(&mut Draft, T);

/// Says whether one text is acceptable; if not, completes "must be".
pub type Check = fn(&str) -> Result<(), &'static str>;

/// What a knob takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool(Set<bool>),
    /// A whole number from the first to the second bound.
    Integer(u64, u64, Set<u64>),
    /// A port; 0 takes a free one.
    Port(Set<u16>),
    /// A time between the two bounds; [`Plain`] says what a number without a unit means.
    Duration(Plain, Duration, Duration, Set<Duration>),
    /// One text.
    Text(Check, Set<String>),
    /// Texts with commas between them, or an array of a file.
    List(Check, Set<Vec<String>>),
    /// An existing file.
    Path(Set<PathBuf>),
    /// An IP address, or `localhost`.
    Address(Set<IpAddr>),
    /// Cores: `0-5,8`.
    Cores(Set<Vec<usize>>),
    /// One of the first list; the second list names what a later version will take.
    Choice(&'static [&'static str], &'static [&'static str], Set<&'static str>),
    /// Accepted for the sake of services that Usher replaces; has nothing to do here, for this reason.
    Ignored(&'static str),
    /// Its feature is not in this version: accepted with a warning.
    Later(&'static str),
}

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Completes "must be".
    Must(String),
    /// Not in this version.
    Later(&'static str),
}

impl Kind {
    /// Reads the value, writes it into the draft and returns it as people see it.
    ///
    /// # Errors
    /// The value is not of the kind or out of range; nothing was written.
    pub fn apply(&self, typed: &Typed, draft: &mut Draft) -> Result<String, Refusal> {
        let text = || one_text(typed);
        match *self {
            Self::Bool(set) => {
                let value = read_bool(text()?).ok_or_else(|| must("true or false"))?;
                set(draft, value);
                Ok(value.to_string())
            }
            Self::Integer(min, max, set) => {
                let value = read_integer(text()?, min, max)?;
                set(draft, value);
                Ok(value.to_string())
            }
            Self::Port(set) => {
                let value = read_integer(text()?, 0, u64::from(u16::MAX))?;
                set(draft, u16::try_from(value).unwrap_or(u16::MAX));
                Ok(value.to_string())
            }
            Self::Duration(plain, min, max, set) => {
                let value = read_duration(text()?, plain, min, max)?;
                set(draft, value);
                Ok(duration::show(value))
            }
            Self::Path(set) => {
                let path = read_path(text()?)?;
                set(draft, path.clone());
                Ok(path.display().to_string())
            }
            Self::Address(set) => {
                let value = read_address(text()?)?;
                set(draft, value);
                Ok(value.to_string())
            }
            Self::Cores(set) => {
                let cores = read_cores(&all_texts(typed).join(","))?;
                let shown = show_cores(&cores);
                set(draft, cores);
                Ok(shown)
            }
            Self::Text(check, set) => apply_text(quoted(typed)?, check, set, draft),
            Self::List(check, set) => apply_list(typed, check, set, draft),
            Self::Choice(allowed, later, set) => apply_choice(text()?, (allowed, later), set, draft),
            Self::Ignored(_) | Self::Later(_) => Ok(all_texts(typed).join(",")),
        }
    }

    /// Whether the gateway does anything with it, and so whether it is a flag too.
    pub fn has_effect(&self) -> bool {
        !matches!(self, Self::Ignored(_) | Self::Later(_))
    }

    /// What stands for the value in help texts.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Self::Bool(_) => "BOOL",
            Self::Integer(..) => "N",
            Self::Port(_) => "PORT",
            Self::Duration(..) => "TIME",
            Self::List(..) => "LIST",
            Self::Path(_) => "FILE",
            Self::Address(_) => "ADDRESS",
            Self::Cores(_) => "CORES",
            Self::Text(..) | Self::Choice(..) | Self::Ignored(_) | Self::Later(_) => "TEXT",
        }
    }
}

fn must(allowed: impl Into<String>) -> Refusal {
    Refusal::Must(allowed.into())
}

fn one_text(typed: &Typed) -> Result<&str, Refusal> {
    match typed {
        Typed::Text(text) | Typed::Bare(text) => Ok(text),
        Typed::List(_) => Err(must("one value, not an array")),
    }
}

/// Refuses bare numbers: a secret of digits would lose its leading zeros on the way.
fn quoted(typed: &Typed) -> Result<&str, Refusal> {
    match typed {
        Typed::Bare(_) => Err(must("text, in quotes")),
        Typed::Text(_) | Typed::List(_) => one_text(typed),
    }
}

fn all_texts(typed: &Typed) -> Vec<String> {
    match typed {
        Typed::Text(text) | Typed::Bare(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        Typed::List(list) => list.clone(),
    }
}

fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn read_integer(text: &str, min: u64, max: u64) -> Result<u64, Refusal> {
    let value = text.parse::<u64>().ok().filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| must(format!("a whole number from {min} to {max}")))
}

fn read_duration(text: &str, plain: Plain, min: Duration, max: Duration) -> Result<Duration, Refusal> {
    let value = duration::parse(text, plain).filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| {
        let unit = match plain {
            Plain::Milliseconds => "; a plain number is milliseconds",
            Plain::Refused => "",
        };
        let (min, max) = (duration::show(min), duration::show(max));
        must(format!("a time from {min} to {max}, such as 250ms, 30s, 5m or 1h{unit}"))
    })
}

fn read_path(text: &str) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(text);
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Err(must("a file, and this is a directory")),
        Ok(_) => Ok(path),
        Err(error) => Err(must(format!("a file that can be read: {error}"))),
    }
}

fn read_address(text: &str) -> Result<IpAddr, Refusal> {
    if text == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    text.parse().map_err(|_| must("an IP address such as 0.0.0.0, 127.0.0.1 or ::"))
}

/// Reads `0-5,8`; at most 1 024 cores, which may repeat.
fn read_cores(text: &str) -> Result<Vec<usize>, Refusal> {
    const CORES_MAX: usize = 1_024;
    let refused = || must(format!("1 to {CORES_MAX} cores, such as 0-5,8"));
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first = first.trim().parse::<usize>().map_err(|_| refused())?;
        let last = last.trim().parse::<usize>().map_err(|_| refused())?;
        if last < first || last - first >= CORES_MAX - cores.len() {
            return Err(refused());
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

/// Writes cores so that [`read_cores`] reads them back: `0-5,8`.
pub(crate) fn show_cores(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => runs.push((*core, *core)),
        }
    }
    let texts = runs
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    texts.collect::<Vec<_>>().join(",")
}

fn apply_text(text: &str, check: Check, set: Set<String>, draft: &mut Draft) -> Result<String, Refusal> {
    check(text).map_err(must)?;
    set(draft, text.to_owned());
    Ok(text.to_owned())
}

fn apply_list(
    typed: &Typed,
    check: Check,
    set: Set<Vec<String>>,
    draft: &mut Draft,
) -> Result<String, Refusal> {
    let list = all_texts(typed);
    list.iter().try_for_each(|item| check(item)).map_err(must)?;
    let shown = list.join(",");
    set(draft, list);
    Ok(shown)
}

fn apply_choice(
    text: &str,
    (allowed, later): (&[&'static str], &[&'static str]),
    set: Set<&'static str>,
    draft: &mut Draft,
) -> Result<String, Refusal> {
    let find = |list: &[&'static str]| list.iter().copied().find(|option| option.eq_ignore_ascii_case(text));
    if let Some(option) = find(allowed) {
        set(draft, option);
        return Ok(option.to_owned());
    }
    match find(later) {
        Some(_) => Err(Refusal::Later("is not in this version")),
        None => Err(must(allowed.join(" or "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_read_and_show_the_same() {
        let rows = [("0", vec![0]), ("0-2", vec![0, 1, 2]), ("0-1,8", vec![0, 1, 8]), ("3,3", vec![3, 3])];
        for (text, cores) in rows {
            assert_eq!(read_cores(text), Ok(cores.clone()));
            assert_eq!(show_cores(&cores), text);
        }
    }

    #[test]
    fn what_is_no_core_list_is_refused() {
        for text in ["", "a", "2-1", "0-1024", "0-1023,0", "0-18446744073709551615", "1-", "-1", "0,,1"] {
            assert!(read_cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_no_text() {
        let kind = Kind::Text(|_| Ok(()), |_, _| {});
        let refusal = kind.apply(&Typed::Bare("12".into()), &mut Draft::default());
        assert_eq!(refusal, Err(Refusal::Must("text, in quotes".into())));
    }

    #[test]
    fn a_list_is_split_at_commas_or_taken_as_it_is() {
        let kind = Kind::List(|_| Ok(()), |draft, list| draft.settings.streams.rooms = list);
        for typed in [Typed::Text("a:*, b".into()), Typed::List(vec!["a:*".into(), "b".into()])] {
            let mut draft = Draft::default();
            assert_eq!(kind.apply(&typed, &mut draft), Ok("a:*,b".to_owned()));
            assert_eq!(draft.settings.streams.rooms, ["a:*", "b"]);
        }
    }
}
