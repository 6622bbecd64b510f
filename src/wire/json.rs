//! JSON text: validated once, where it enters, without a tree.
//!
//! Owns the rules beyond RFC 8259: depth, number and length of keys, no key twice. Never changes a byte: what
//! passes is handed on as it came, numbers that no type of ours holds included.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::limits::{JSON_DEPTH_MAX, JSON_KEY_BYTES_MAX, JSON_KEYS_MAX};

/// Why a text is not acceptable JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not JSON, a number out of the range of a double, or bytes after the end.
    #[error("not valid JSON")]
    Syntax,
    /// Deeper than [`crate::limits::JSON_DEPTH_MAX`].
    #[error("nested deeper than 32 levels")]
    TooDeep,
    /// More keys than [`crate::limits::JSON_KEYS_MAX`].
    #[error("more than 256 keys")]
    TooManyKeys,
    /// A key longer than [`crate::limits::JSON_KEY_BYTES_MAX`].
    #[error("a key is longer than 1024 bytes")]
    KeyTooLong,
    /// A key twice in one object.
    #[error("a key appears twice in one object")]
    DuplicateKey,
    /// Not an object where one is needed.
    #[error("not a JSON object")]
    NotAnObject,
}

/// Checks a text: syntax, depth, number and length of keys, keys twice.
///
/// Linear in the text but for the keys of an object, which are sorted; the stack is bounded by the depth.
pub fn validate(text: &str) -> Result<(), Invalid> {
    let mut rules = Rules::default();
    let mut json = serde_json::Deserializer::from_str(text);
    match AnyValue(&mut rules).deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => Ok(()),
        Err(_) => Err(rules.broken.unwrap_or(Invalid::Syntax)),
    }
}

/// Checks a text as [`validate`] does, and that it is an object.
pub fn validate_object(text: &str) -> Result<(), Invalid> {
    validate(text)?;
    // RFC 8259 §2: what may stand before a value.
    let value = text.trim_start_matches([' ', '\t', '\n', '\r']);
    if value.starts_with('{') { Ok(()) } else { Err(Invalid::NotAnObject) }
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is JSON and a Vec takes every byte");
}

/// What has been seen of one text.
#[derive(Default)]
struct Rules<'de> {
    /// Containers that are open.
    depth: usize,
    /// Keys of all objects so far.
    key_count: usize,
    /// Keys of the objects that are open, unescaped, the innermost object's last.
    open_keys: Vec<Cow<'de, str>>,
    /// The rule that ended the reading; `None`: the syntax did.
    broken: Option<Invalid>,
}

impl<'de> Rules<'de> {
    /// The reader wants an error of its own; the true one is kept aside.
    fn broken<E: Error>(&mut self, rule: Invalid) -> E {
        self.broken = Some(rule);
        E::custom("refused")
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(self.broken(Invalid::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }

    fn add_key<E: Error>(&mut self, key: Cow<'de, str>) -> Result<(), E> {
        if key.len() > JSON_KEY_BYTES_MAX {
            return Err(self.broken(Invalid::KeyTooLong));
        }
        if self.key_count == JSON_KEYS_MAX {
            return Err(self.broken(Invalid::TooManyKeys));
        }
        self.key_count += 1;
        self.open_keys.push(key);
        Ok(())
    }

    /// Ends the object whose keys begin at `first`.
    fn end_object<E: Error>(&mut self, first: usize) -> Result<(), E> {
        let keys = &mut self.open_keys[first..];
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.broken(Invalid::DuplicateKey));
        }
        self.open_keys.truncate(first);
        Ok(())
    }
}

/// Reads one value of any kind.
struct AnyValue<'a, 'de>(&'a mut Rules<'de>);

impl<'de> DeserializeSeed<'de> for AnyValue<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        self.0.enter()?;
        while array.next_element_seed(AnyValue(self.0))?.is_some() {}
        self.0.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        self.0.enter()?;
        let first = self.0.open_keys.len();
        while let Some(key) = object.next_key_seed(Key)? {
            self.0.add_key(key)?;
            object.next_value_seed(AnyValue(self.0))?;
        }
        self.0.end_object(first)?;
        self.0.depth -= 1;
        Ok(())
    }
}

/// Reads one key, unescaped.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    fn object_of(keys: usize) -> String {
        let fields: Vec<String> = (0..keys).map(|n| format!("\"{n}\":0")).collect();
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn values_that_json_allows_pass() {
        let table = [
            "0",
            " \t\n\r1 ",
            "-0",
            "1.0",
            "9007199254740993",
            "18446744073709551616",
            "-9223372036854775809",
            r#""A-z \u00e9 \ud83d\ude00 \u0000""#,
            "null",
            "[]",
            r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#,
            r#"{"__proto__":{"x":1},"constructor":1}"#,
        ];
        for text in table {
            assert_eq!(validate(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let table = [
            "",
            " ",
            "\u{feff}{}",
            "{}{}",
            "{} x",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{'a':1}",
            "{a:1}",
            "NaN",
            "Infinity",
            "01",
            "+1",
            "1.",
            "1e999",
            "tru",
            "\"\0\"",
            "\"\n\"",
            r#""\ud800""#,
            r#""\udc00""#,
            r#"{"\ud800":1}"#,
            r#""\x41""#,
            "\"open",
            "\u{a0}1",
        ];
        for text in table {
            assert_eq!(validate(text), Err(Invalid::Syntax), "{text:?}");
        }
    }

    #[test]
    fn depth_ends_at_its_limit_and_the_stack_never_does() {
        assert_eq!(validate(&nested(32)), Ok(()));
        for depth in [33, 1_000, 1_000_000] {
            assert_eq!(validate(&nested(depth)), Err(Invalid::TooDeep));
            assert_eq!(validate(&"{\"a\":".repeat(depth)), Err(Invalid::TooDeep));
        }
    }

    #[test]
    fn keys_of_all_objects_count_together() {
        assert_eq!(validate(&object_of(256)), Ok(()));
        assert_eq!(validate(&object_of(257)), Err(Invalid::TooManyKeys));
        assert_eq!(validate(&object_of(10_000)), Err(Invalid::TooManyKeys));
        assert_eq!(validate(&format!("[{0},{0}]", object_of(128))), Ok(()));
        assert_eq!(validate(&format!("[{0},{0}]", object_of(129))), Err(Invalid::TooManyKeys));
    }

    #[test]
    fn a_long_key_is_refused() {
        assert_eq!(validate(&format!("{{\"{}\":1}}", "k".repeat(1024))), Ok(()));
        assert_eq!(validate(&format!("{{\"{}\":1}}", "k".repeat(64 * 1024))), Err(Invalid::KeyTooLong));
    }

    #[test]
    fn a_key_twice_is_found_whatever_its_spelling() {
        let table = [
            r#"{"room":1,"room":2}"#,
            r#"{"room":1,"r\u006fom":2}"#,
            r#"{"b":1,"a":{"c":1},"b":2}"#,
            r#"[{"a":{"x":1,"y":2,"x":3}}]"#,
            r#"{"":1,"":2}"#,
        ];
        for text in table {
            assert_eq!(validate(text), Err(Invalid::DuplicateKey), "{text}");
        }
    }

    #[test]
    fn an_object_is_told_from_other_values() {
        assert_eq!(validate_object(" \n{\"a\":1}"), Ok(()));
        for text in ["[]", "1", "\"{}\"", "null"] {
            assert_eq!(validate_object(text), Err(Invalid::NotAnObject), "{text}");
        }
        assert_eq!(validate_object("{"), Err(Invalid::Syntax));
    }

    #[test]
    fn a_written_string_reads_back() {
        for text in ["", "plain", "\"\\/\u{8}\n\0\u{7f}", "é😀\u{2028}"] {
            let mut out = b"x".to_vec();
            write_string(text, &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out[1..]).unwrap(), text);
        }
    }
}
