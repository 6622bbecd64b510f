//! Messages made smaller, each by itself: permessage-deflate without context takeover (RFC 7692 §7).
//!
//! Owns one compressor and one inflater for as many connections as share them, and their scratch space. Never keeps
//! anything of a message when it is done with it: what one connection says helps nobody to guess what another hears.
//! Invariants: an output is never longer than its bound, nor is more allocated for it; between two messages no more than
//! [`SCRATCH_BYTES`] are kept. `frame` knows which frames are compressed, `net/upgrade` who may get them.

use std::num::NonZeroU8;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status, compress_bound};

use super::close::Close;
use crate::{limits::SCRATCH_BYTES, metrics::DeflateCells};

/// How hard to try, 1 to 9. At 6, a message of 1 KiB takes ten times as long and comes out a fifth smaller.
const LEVEL: i32 = 1;
/// What a sender takes off the end of a compressed message, and a receiver puts there again (RFC 7692 §7.2.1, §7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// The same, and an empty last block: whoever reaches its end was between two blocks before, so nothing was cut off.
const TAIL_AND_END: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];
/// More than what a flush adds to the compressed data: the end of a block, the beginning of an empty one, the tail.
const FLUSH_BYTES_MAX: usize = 16;

/// That a connection uses permessage-deflate, and the window that its peer can look back on: 2^8 to 2^15 bytes.
///
/// One compressor serves all, whose window is the largest. A message no longer than a smaller one holds no distance
/// beyond it, and so may be sent as it was compressed for everybody; a longer message goes plain there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(NonZeroU8);

impl Window {
    /// What a peer has that asks for nothing smaller (RFC 7692 §7.1.2.1).
    pub const LARGEST: Self = Self(NonZeroU8::new(15).expect("15 is not 0"));

    /// A window of 2^`bits` bytes; `None` unless `8 <= bits <= 15`.
    pub fn of_bits(bits: u8) -> Option<Self> {
        NonZeroU8::new(bits).filter(|bits| (8..=15).contains(&bits.get())).map(Self)
    }

    /// `8 <= bits <= 15`.
    pub fn bits(self) -> u8 {
        self.0.get()
    }

    /// Whether a message of that length may be compressed for it.
    pub fn holds(self, message_bytes: usize) -> bool {
        // The largest window is the compressor's own.
        self == Self::LARGEST || message_bytes <= 1 << self.bits()
    }
}

/// What a compressor or an inflater did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that changed their size.
    pub messages: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes after.
    pub bytes_after: u64,
    /// Messages that would not have become smaller, or could not be inflated.
    pub in_vain: u64,
}

impl Tally {
    /// Shows it to whoever reads the metrics.
    pub fn show(self, cells: &DeflateCells) {
        cells.messages.set(self.messages);
        cells.bytes_before.set(self.bytes_before);
        cells.bytes_after.set(self.bytes_after);
        cells.in_vain.set(self.in_vain);
    }

    fn count(&mut self, before: usize, after: usize) {
        self.messages += 1;
        self.bytes_before += before as u64;
        self.bytes_after += after as u64;
    }
}

/// Compresses; one serves a whole shard. 380 kB, and its scratch space.
pub struct Deflater {
    stream: Deflate,
    scratch: Vec<u8>,
    tally: Tally,
}

impl Deflater {
    /// The compressor of a shard.
    pub fn new() -> Self {
        Self { stream: new_stream(), scratch: Vec::new(), tally: Tally::default() }
    }

    /// What it did so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Hands the compressed message to `take`, without its tail. `None`: it would not become smaller.
    pub fn deflate<R>(&mut self, message: &[u8], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let room = compress_bound(message.len()) + FLUSH_BYTES_MAX;
        if self.scratch.len() < room {
            self.scratch = vec![0; room.max(SCRATCH_BYTES)];
        }
        let compressed = self.deflate_into_scratch(message, room).filter(|length| *length < message.len());
        let taken = match compressed {
            Some(length) => {
                self.tally.count(message.len(), length);
                Some(take(&self.scratch[..length]))
            }
            None => {
                self.tally.in_vain += 1;
                None
            }
        };
        release(&mut self.scratch);
        taken
    }

    /// The length of what is in the scratch space then. `None`: it did not fit the room, which is for any message.
    fn deflate_into_scratch(&mut self, message: &[u8], room: usize) -> Option<usize> {
        self.stream.reset();
        let done = self.stream.compress(message, &mut self.scratch[..room], DeflateFlush::SyncFlush);
        let length = self.stream.total_out() as usize;
        // Where room is left, nothing waits to be written.
        if done == Ok(Status::Ok) && length < room {
            return self.scratch[..length].strip_suffix(&TAIL).map(<[u8]>::len);
        }
        // A reset of zlib-rs 0.6.8 forgets what waits, but not where, and panics over it in a later message.
        self.stream = new_stream();
        None
    }
}

fn new_stream() -> Deflate {
    Deflate::new(LEVEL, false, Window::LARGEST.bits())
}

impl Default for Deflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// Inflates; one serves a whole shard. 48 kB, and its scratch space.
pub struct Inflater {
    stream: Inflate,
    scratch: Vec<u8>,
    tally: Tally,
}

impl Inflater {
    /// The inflater of a shard.
    pub fn new() -> Self {
        let stream = Inflate::new(false, Window::LARGEST.bits());
        Self { stream, scratch: Vec::new(), tally: Tally::default() }
    }

    /// What it did so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Bytes that a compressed message of `message_bytes_max` may have: what does not shrink takes nine bits a byte at
    /// worst (RFC 1951 §3.2.6), and a little around them.
    pub fn compressed_bytes_max(message_bytes_max: usize) -> usize {
        message_bytes_max.saturating_add(message_bytes_max / 8).saturating_add(64)
    }

    /// Hands the message to `take`; `compressed` is the payload of all its frames.
    ///
    /// # Errors
    ///
    /// The message has more than `bytes_max` bytes (1009), or is no whole deflate data (1007).
    pub fn inflate<R>(
        &mut self,
        compressed: &[u8],
        bytes_max: usize,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Close> {
        let inflated = self.inflate_into_scratch(compressed, bytes_max);
        match inflated {
            Ok(length) => self.tally.count(compressed.len(), length),
            Err(_) => self.tally.in_vain += 1,
        }
        let taken = inflated.map(|length| take(&self.scratch[..length]));
        release(&mut self.scratch);
        taken
    }

    /// The length of the message, which is in the scratch space then.
    fn inflate_into_scratch(&mut self, compressed: &[u8], bytes_max: usize) -> Result<usize, Close> {
        // No deflate data at all, strictly; what it means is plain, and some send it for an empty message.
        if compressed.is_empty() {
            return Ok(0);
        }
        self.stream.reset(false);
        let mut length = 0;
        let mut rest = compressed;
        while self.feed(&mut rest, &mut length, bytes_max)? {
            // A last block need not end the message (RFC 7692 §7.2.3.4); where nothing follows it, it does.
            if rest.is_empty() {
                return Ok(length);
            }
            self.stream.reset(false);
        }
        let mut tail = &TAIL_AND_END[..];
        let whole = self.feed(&mut tail, &mut length, bytes_max)? && tail.is_empty();
        if whole { Ok(length) } else { Err(Close::InvalidDeflate) }
    }

    /// Takes from `input` until it is used up or a last block ends, which is then `true`.
    fn feed(&mut self, input: &mut &[u8], length: &mut usize, bytes_max: usize) -> Result<bool, Close> {
        loop {
            let mut probe = [0];
            let full = *length == bytes_max;
            let output = if full { &mut probe[..] } else { grow(&mut self.scratch, *length, bytes_max) };
            let output_bytes = output.len();
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(input, output, InflateFlush::NoFlush);
            let status = status.map_err(|_| Close::InvalidDeflate)?;
            *input = &input[(self.stream.total_in() - read) as usize..];
            let written = (self.stream.total_out() - written) as usize;
            if full && written > 0 {
                return Err(Close::TooBig);
            }
            *length += written;
            match status {
                Status::StreamEnd => return Ok(true),
                // It stopped for want of input.
                Status::Ok | Status::BufError if written < output_bytes => return Ok(false),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("tally", &self.tally).finish_non_exhaustive()
    }
}

/// Room behind the first `used < bytes_max` bytes: what there is, else twice as much, `bytes_max` in all at most.
fn grow(scratch: &mut Vec<u8>, used: usize, bytes_max: usize) -> &mut [u8] {
    if scratch.len() == used {
        let length = (2 * used).max(SCRATCH_BYTES).min(bytes_max);
        scratch.reserve_exact(length - used);
        scratch.resize(length, 0);
    }
    let end = scratch.len().min(bytes_max);
    &mut scratch[used..end]
}

/// Gives back the space of a large message.
fn release(scratch: &mut Vec<u8>) {
    if scratch.len() > SCRATCH_BYTES {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod tests;
