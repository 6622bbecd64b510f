//! Durations as people write them: `250ms`, `30s`, `5m`, `1h30m`, `7d`.

use std::time::Duration;

/// What a number without a unit means, where a seed writes it so (03 §13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Milliseconds.
    Milliseconds,
    /// Nothing: a unit is required. Zero needs none.
    Refused,
}

/// Longest unit first, as [`show`] writes them; `ms` before `m` and `s`, so that a search by prefix finds it.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Reads a duration; `None` where it is not one, or is longer than a `u64` of milliseconds.
pub fn parse(text: &str, plain: Plain) -> Option<Duration> {
    if let Ok(number) = text.parse::<u64>() {
        return (plain == Plain::Milliseconds || number == 0).then(|| Duration::from_millis(number));
    }
    let mut rest = text;
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// Writes a duration so that [`parse`] reads the same back; what is below a millisecond is left out.
pub fn show(duration: Duration) -> String {
    let mut left_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left_ms == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for unit in ["d", "h", "m", "s", "ms"] {
        let factor = UNITS.iter().find(|(known, _)| *known == unit).map_or(1, |(_, factor)| *factor);
        if left_ms >= factor {
            text.push_str(&format!("{}{unit}", left_ms / factor));
            left_ms %= factor;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let rows = [
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("250ms", Some(250)),
            ("1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("1m250ms", Some(60_250)),
            ("7d", Some(604_800_000)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("30", None),
            ("30 s", None),
            ("30x", None),
            ("-5s", None),
            ("1.5s", None),
            ("30s5", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ];
        for (text, expected_ms) in rows {
            assert_eq!(parse(text, Plain::Refused), expected_ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_plain_number_is_milliseconds_only_where_a_seed_says_so() {
        assert_eq!(parse("25000", Plain::Milliseconds), Some(Duration::from_secs(25)));
        assert_eq!(parse("25000", Plain::Refused), None);
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for (ms, text) in
            [(0, "0s"), (250, "250ms"), (25_000, "25s"), (90_000, "1m30s"), (90_061_001, "1d1h1m1s1ms")]
        {
            let duration = Duration::from_millis(ms);
            assert_eq!(show(duration), text);
            assert_eq!(parse(text, Plain::Refused), Some(duration));
        }
    }
}
