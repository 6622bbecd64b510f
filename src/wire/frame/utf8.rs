//! Text that arrives in pieces, checked as it arrives (RFC 6455 §8.1).

use std::str;

/// The piece cannot be part of valid UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

/// Collects text. Invariant: `text` and `tail` together are what was appended, and `tail` is the valid beginning
/// of one character, at most 3 bytes.
#[derive(Debug, Default)]
pub(super) struct TextBuffer {
    text: String,
    tail: [u8; 4],
    tail_bytes: usize,
}

impl TextBuffer {
    /// Bytes appended so far.
    pub(super) fn len(&self) -> usize {
        self.text.len() + self.tail_bytes
    }

    /// Takes the next piece; fails at the first byte that no valid text has there.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let piece = self.complete_tail(piece)?;
        match str::from_utf8(piece) {
            Ok(text) => self.text.push_str(text),
            Err(error) => {
                let (whole, rest) = piece.split_at(error.valid_up_to());
                if error.error_len().is_some() {
                    return Err(NotUtf8);
                }
                // Once more over the same bytes, only where a piece ends within a character.
                self.text.push_str(str::from_utf8(whole).map_err(|_| NotUtf8)?);
                self.tail[..rest.len()].copy_from_slice(rest);
                self.tail_bytes = rest.len();
            }
        }
        Ok(())
    }

    /// The text, unless it ends within a character.
    pub(super) fn finish(&self) -> Result<&str, NotUtf8> {
        if self.tail_bytes == 0 { Ok(&self.text) } else { Err(NotUtf8) }
    }

    /// Moves bytes from the piece to the character that the last one ended in; returns what is left.
    fn complete_tail<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], NotUtf8> {
        while self.tail_bytes > 0 {
            let Some((&byte, rest)) = piece.split_first() else { break };
            piece = rest;
            self.tail[self.tail_bytes] = byte;
            self.tail_bytes += 1;
            match str::from_utf8(&self.tail[..self.tail_bytes]) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.tail_bytes = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => {}
            }
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "a¢€😀 κόσμε \u{10FFFF}\u{0}\u{7FF}\u{800}\u{FFFF}z";

    #[test]
    fn valid_text_passes_wherever_it_is_cut() {
        let bytes = MIXED.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut buffer = TextBuffer::default();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    buffer.append(piece).unwrap();
                }
                assert_eq!((buffer.finish(), buffer.len()), (Ok(MIXED), bytes.len()));
            }
        }
    }

    #[test]
    fn the_first_impossible_byte_fails() {
        // Valid beginnings, then the byte that ends them: overlong forms, surrogates, beyond U+10FFFF, stray bytes.
        let table: [&[u8]; 12] = [
            &[0x80],
            &[0xC0],
            &[0xC1],
            &[0xF5],
            &[0xFF],
            &[0xC2, 0x41],
            &[0xE0, 0x9F],
            &[0xED, 0xA0],
            &[0xF0, 0x8F],
            &[0xF4, 0x90],
            &[0xE2, 0x82, 0x28],
            &[0xF0, 0x9F, 0x98, 0xC0],
        ];
        for bytes in table {
            let mut whole = TextBuffer::default();
            assert_eq!(whole.append(bytes), Err(NotUtf8), "{bytes:x?}");
            let (last, begin) = bytes.split_last().unwrap();
            let mut single = TextBuffer::default();
            for byte in begin {
                assert_eq!(single.append(&[*byte]), Ok(()), "{bytes:x?}");
            }
            assert_eq!(single.append(&[*last]), Err(NotUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn a_text_that_ends_within_a_character_is_not_whole() {
        for end in [1, 2, 3] {
            let mut buffer = TextBuffer::default();
            buffer.append(&"😀".as_bytes()[..end]).unwrap();
            assert_eq!(buffer.finish(), Err(NotUtf8));
        }
    }
}
