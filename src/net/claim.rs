//! Whether a newcomer says that it was here before, by the first bytes it sends.
//!
//! Pure, one pass over what has come, and believed only as far as it costs nothing: anybody can send these bytes.

use crate::limits::TLS_RECORD_PLAIN_MAX;

/// Whether a TLS hello offers a ticket of before: the extension `pre_shared_key` (RFC 8446 §4.2.11), or a
/// `session_ticket` that holds one (RFC 5077 §3.2). `None`: its record has not come whole.
///
/// A hello that goes on in a second record offers nothing here; no client in use sends one.
pub fn offers_ticket(input: &[u8]) -> Option<bool> {
    let [kind, _, _, high, low, fragment @ ..] = input else {
        // What does not begin as a handshake record need not be waited for.
        return if input.first().is_none_or(|kind| *kind == HANDSHAKE) { None } else { Some(false) };
    };
    if *kind != HANDSHAKE {
        return Some(false);
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > TLS_RECORD_PLAIN_MAX {
        return Some(false);
    }
    let fragment = fragment.get(..length)?;
    Some(extensions(fragment).is_some_and(any_ticket))
}

/// Whether the target of a request asks for what was missed: `?resume=wait` (03 §6). Looks at the first line, or at
/// what has come of it.
pub fn asks_to_resume(input: &[u8]) -> bool {
    // As text, which is searched by words instead of bytes: tokens in queries are long.
    let text = str::from_utf8(input)
        .or_else(|error| str::from_utf8(&input[..error.valid_up_to()]))
        .unwrap_or_default();
    let target = text.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let (_, query) = target.split_once('?').unwrap_or_default();
    query.split('&').any(|pair| pair == "resume=wait")
}

/// The extensions of a hello (RFC 8446 §4.1.2).
fn extensions(message: &[u8]) -> Option<&[u8]> {
    let mut rest = Bytes(message);
    if rest.take(1)? != [CLIENT_HELLO] {
        return None;
    }
    let mut hello = Bytes(rest.vector(3)?);
    hello.take(VERSION_AND_RANDOM_BYTES)?;
    let _session_id = hello.vector(1)?;
    let _cipher_suites = hello.vector(2)?;
    let _compression_methods = hello.vector(1)?;
    hello.vector(2)
}

fn any_ticket(extensions: &[u8]) -> bool {
    let mut rest = Bytes(extensions);
    while let (Some(kind), Some(data)) = (rest.number(2), rest.vector(2)) {
        match kind {
            PRE_SHARED_KEY => return true,
            // Empty where the client only says that it would take one.
            SESSION_TICKET if !data.is_empty() => return true,
            _ => {}
        }
    }
    false
}

/// What has not been read of a message.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes; `bytes <= 3`.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What stands behind its length, which has so many bytes.
    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

/// Content type of a record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const VERSION_AND_RANDOM_BYTES: usize = 2 + 32;
const SESSION_TICKET: usize = 35;
const PRE_SHARED_KEY: usize = 41;

#[cfg(test)]
mod tests;
