//! Against the examples of RFC 7692, against another implementation, and against what nobody should send.

use miniz_oxide::{
    deflate::core::{
        CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params,
    },
    inflate::decompress_to_vec,
};

use super::*;

const MAX: usize = 64 * 1024;
/// Knuth's multiplier and an odd increment: enough chance for a test.
const fn next(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// So many bytes of an alphabet of `2^bits`, the same for the same seed.
fn noise(length: usize, bits: u32, seed: u64) -> Vec<u8> {
    let mut state = next(seed);
    let mut byte = || {
        state = next(state);
        (state >> (64 - bits)) as u8
    };
    (0..length).map(|_| byte()).collect()
}

fn inflate(compressed: &[u8]) -> Result<Vec<u8>, Close> {
    Inflater::new().inflate(compressed, MAX, <[u8]>::to_vec)
}

fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    Deflater::new().deflate(message, <[u8]>::to_vec)
}

/// As another implementation compresses it, its tail taken off.
fn deflate_elsewhere(message: &[u8], level: i32) -> Vec<u8> {
    let mut compressor = CompressorOxide::new(create_comp_flags_from_zip_params(level, -15, 0));
    let mut out = Vec::new();
    let (status, _) = compress_to_output(&mut compressor, message, TDEFLFlush::Sync, |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    assert_eq!(status, TDEFLStatus::Okay);
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    let table: [(&[u8], &[u8]); 6] = [
        // RFC 7692 §7.2.3.1, §7.2.3.3 to §7.2.3.6
        (&[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], b"Hello"),
        (&[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00], b"Hello"),
        (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00], b"Hello"),
        (&[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00], b"Hello"),
        (&[0x00], b""),
        // A last block with nothing behind it, as a sender makes that forgets the empty one.
        (&[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00], b"Hello"),
    ];
    for (compressed, message) in table {
        assert_eq!(inflate(compressed).as_deref(), Ok(message), "{compressed:x?}");
    }
    assert_eq!(inflate(b"").as_deref(), Ok(&b""[..]));
    // The window of §7.2.3.2 is the message's own: what refers to the message before is corrupt.
    assert_eq!(inflate(&[0xF2, 0x00, 0x11, 0x00, 0x00]), Err(Close::InvalidDeflate));
}

#[test]
fn what_one_compresses_another_inflates_and_the_other_way_round() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
    for seed in 0..400 {
        let largest = [40, 400, 4_000, 40_000][seed as usize % 4];
        let length = (next(seed) >> 33) as usize % (largest + 1);
        let message = noise(length, 1 + (seed / 4 % 8) as u32, seed);
        let others = deflate_elsewhere(&message, (seed % 10) as i32);
        assert_eq!(inflater.inflate(&others, MAX, <[u8]>::to_vec), Ok(message.clone()), "seed {seed}");

        let Some(ours) = deflater.deflate(&message, <[u8]>::to_vec) else { continue };
        assert!(ours.len() < message.len(), "seed {seed}");
        assert_eq!(inflater.inflate(&ours, MAX, <[u8]>::to_vec), Ok(message.clone()), "seed {seed}");
        let whole = decompress_to_vec(&[ours.as_slice(), &TAIL_AND_END].concat());
        assert_eq!(whole.ok().as_ref(), Some(&message), "seed {seed}");
    }
}

#[test]
fn no_message_leaves_anything_behind_for_the_next() {
    let message = noise(2_000, 4, 1);
    let mut deflater = Deflater::new();
    let first = deflater.deflate(&message, <[u8]>::to_vec);
    assert_eq!(deflater.deflate(&noise(500, 8, 2), <[u8]>::to_vec), None);
    assert_eq!(deflater.deflate(&message, <[u8]>::to_vec), first);

    let mut inflater = Inflater::new();
    for bad in [&[0xFF][..], &first.clone().unwrap()[..50]] {
        inflater.inflate(bad, MAX, |_| ()).unwrap_err();
        assert_eq!(inflater.inflate(first.as_ref().unwrap(), MAX, <[u8]>::to_vec), Ok(message.clone()));
    }
}

#[test]
fn whatever_came_before_every_message_comes_through() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
    for seed in 0..200 {
        // Large and in vain, large and compressible, small, corrupt and too big, in any order.
        let length = [150_000, 3_000][(next(seed) >> 40) as usize % 2];
        let message = noise(length, 5 + (next(seed) >> 50) as u32 % 4, seed);
        let others = deflate_elsewhere(&message, 1);
        inflater.inflate(&others[..others.len() - 1], length, |_| ()).unwrap_err();
        assert_eq!(inflater.inflate(&others, length - 1, |_| ()), Err(Close::TooBig));
        assert_eq!(inflater.inflate(&others, length, |got| got == message), Ok(true), "seed {seed}");
        if let Some(ours) = deflater.deflate(&message, <[u8]>::to_vec) {
            assert_eq!(inflater.inflate(&ours, length, |got| got == message), Ok(true), "seed {seed}");
        }
    }
    assert!(deflater.tally().in_vain > 20 && deflater.tally().messages > 20, "{deflater:?}");
}

#[test]
fn a_compressor_that_ran_out_of_room_is_replaced() {
    let mut deflater = Deflater::new();
    deflater.scratch = vec![0; 1 << 20];
    for seed in 0..10 {
        let message = noise(200_000, 7, seed);
        assert_eq!(deflater.deflate_into_scratch(&message, 1_000), None);
        assert!(deflater.deflate_into_scratch(&message, 1 << 20).is_some_and(|length| length < 200_000));
    }
}

#[test]
fn the_worst_message_fits_the_room_for_it() {
    let mut deflater = Deflater::new();
    for length in (0..300).chain([4_000, 65_535, 65_536, 65_537, 1 << 20]) {
        // Bytes from 144 on take nine bits each (RFC 1951 §3.2.6).
        let message: Vec<u8> = noise(length, 8, 9).into_iter().map(|byte| byte | 0x90).collect();
        let room = compress_bound(length) + FLUSH_BYTES_MAX;
        deflater.scratch = vec![0; room];
        assert!(deflater.deflate_into_scratch(&message, room).is_some(), "{length}");
    }
}

#[test]
fn what_does_not_become_smaller_is_left_alone() {
    for message in [&b""[..], b"a", b"abc", &noise(200, 8, 3), &noise(100_000, 8, 4)] {
        assert_eq!(deflate(message), None, "{} bytes", message.len());
    }
    let mut deflater = Deflater::new();
    assert!(deflater.deflate(&[b'a'; 1_000], <[u8]>::len).is_some_and(|length| length < 30));
    assert_eq!(deflater.deflate(b"abc", <[u8]>::len), None);
    let Tally { messages, bytes_before, bytes_after, in_vain } = deflater.tally();
    assert_eq!((messages, bytes_before, in_vain), (1, 1_000, 1));
    assert!((1..30).contains(&bytes_after));
}

#[test]
fn one_byte_over_the_limit_is_too_big_however_the_limit_falls() {
    for limit in [0, 1, 100, 4_000, SCRATCH_BYTES - 1, SCRATCH_BYTES, SCRATCH_BYTES + 1, 200_000] {
        let mut inflater = Inflater::new();
        for (length, good) in [(limit, true), (limit + 1, false), (3 * limit + 7, false)] {
            let message = noise(length, 3, limit as u64);
            let compressed = deflate_elsewhere(&message, 6);
            let result = inflater.inflate(&compressed, limit, <[u8]>::to_vec);
            assert_eq!(result, if good { Ok(message) } else { Err(Close::TooBig) }, "{length} of {limit}");
        }
    }
}

/// B13: a kibibyte that would be a gibibyte, had it room.
#[test]
fn a_bomb_gets_no_more_memory_than_a_message() {
    // 258 bytes from one back, again and again: 1 032 times as much as it says.
    let seed = deflate_elsewhere(&vec![0; 1 << 20], 9);
    assert!(seed.len() < 1_100, "{}", seed.len());
    let mut bomb = Vec::new();
    while bomb.len() < 1 << 16 {
        bomb.extend_from_slice(&seed);
        bomb.extend_from_slice(&TAIL);
    }
    for limit in [MAX, 10 * MAX] {
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&bomb, limit, |_| ()), Err(Close::TooBig));
        inflater.inflate_into_scratch(&bomb, limit).unwrap_err();
        assert!(inflater.scratch.capacity() <= limit, "{}", inflater.scratch.capacity());
    }
}

#[test]
fn between_two_messages_little_is_kept() {
    let large = noise(300_000, 4, 5);
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
    let compressed = deflater.deflate(&large, <[u8]>::to_vec).unwrap();
    assert_eq!(inflater.inflate(&compressed, large.len(), <[u8]>::len), Ok(large.len()));
    assert_eq!((deflater.scratch.capacity(), inflater.scratch.capacity()), (0, 0));
    let small = deflater.deflate(&large[..1_000], <[u8]>::to_vec).unwrap();
    inflater.inflate(&small, MAX, |_| ()).unwrap();
    assert_eq!((deflater.scratch.capacity(), inflater.scratch.capacity()), (SCRATCH_BYTES, SCRATCH_BYTES));
}

#[test]
fn data_that_is_cut_off_or_goes_on_is_corrupt() {
    let compressed = deflate_elsewhere(&noise(3_000, 4, 6), 6);
    for length in 1..compressed.len() - 1 {
        assert_eq!(inflate(&compressed[..length]), Err(Close::InvalidDeflate), "{length} bytes");
    }
    let table: [&[u8]; 7] = [
        // A reserved type of block.
        &[0x06],
        &[0xFF; 30],
        // A stored block whose length and its complement differ.
        &[0x00, 0x05, 0x00, 0x00, 0x00, b'a'],
        // A stored last block that takes two bytes of the tail for its own.
        &[0x01, 0x02, 0x00, 0xFD, 0xFF],
        // A distance beyond the beginning.
        &[0x4B, 0x04, 0x42, 0x00],
        // Something after the last block that is no block.
        &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0xFF],
        &[0x05],
    ];
    for bytes in table {
        assert_eq!(inflate(bytes), Err(Close::InvalidDeflate), "{bytes:x?}");
    }
}

#[test]
fn any_noise_ends_without_a_panic() {
    let mut inflater = Inflater::new();
    for seed in 0..3_000 {
        let bytes = noise(1 + seed as usize % 300, 8, seed);
        // Only that it returns is of interest.
        inflater.inflate(&bytes, 1_000, |_| ()).ok();
    }
    let good = deflate_elsewhere(&noise(500, 5, 7), 6);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        inflater.inflate(&bytes, 1_000, |_| ()).ok();
    }
}

#[test]
fn the_compressed_limit_lets_every_message_through() {
    for (length, bits) in [(0, 1), (1, 8), (200, 8), (MAX, 8), (MAX, 1)] {
        let message = noise(length, bits, 8);
        for level in 0..=10 {
            let compressed = deflate_elsewhere(&message, level);
            assert!(compressed.len() <= Inflater::compressed_bytes_max(length), "{length} at {level}");
        }
    }
    assert_eq!(Inflater::compressed_bytes_max(usize::MAX), usize::MAX);
}

#[test]
fn a_message_within_a_window_can_be_inflated_with_no_more_than_that() {
    for bits in 9..=15 {
        let message = noise(1 << bits, 4, u64::from(bits));
        let message = [&message[..message.len() / 2], &message[..message.len() / 2]].concat();
        let compressed = [deflate(&message).unwrap(), TAIL_AND_END.to_vec()].concat();
        let mut stream = Inflate::new(false, bits);
        let mut inflated = Vec::new();
        // Byte by byte, so that it has nothing but its window to look back on.
        for end in 1..=compressed.len() {
            let mut out = [0; 600];
            let (read, written) = (stream.total_in() as usize, stream.total_out());
            stream.decompress(&compressed[read..end], &mut out, InflateFlush::NoFlush).unwrap();
            inflated.extend_from_slice(&out[..(stream.total_out() - written) as usize]);
        }
        assert_eq!(inflated, message, "{bits}");
    }
}

#[test]
fn a_window_is_of_eight_to_fifteen_bits_and_holds_as_much() {
    for bits in [0, 7, 16, 255] {
        assert_eq!(Window::of_bits(bits), None);
    }
    for bits in 8..=14 {
        let window = Window::of_bits(bits).unwrap();
        assert!(window.holds(1 << bits) && !window.holds((1 << bits) + 1), "{bits}");
    }
    assert!(Window::LARGEST.holds(usize::MAX));
    assert_eq!(Window::of_bits(15), Some(Window::LARGEST));
    assert_eq!(size_of::<Option<Window>>(), 1);
}
