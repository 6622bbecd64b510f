//! Messages for those who negotiated permessage-deflate.

use super::*;
use crate::wire::{
    deflate::{Inflater, Window},
    frame,
};

const WINDOW: Window = Window::LARGEST;

fn scene() -> Scene {
    Scene::with(|settings| {
        settings.client.compression = true;
        settings.limits.messages_max = 0;
    })
}

/// Long enough to be compressed, and no two alike.
fn long(number: usize) -> String {
    format!(r#"{{"number":{number},"seats":"{}"}}"#, "A1 A2 A3 ".repeat(40 + number % 50))
}

/// The messages among these bytes, and how many of them were compressed.
fn inflated(mut bytes: &[u8]) -> (Vec<String>, usize) {
    let (mut plain, mut count) = (Vec::new(), 0);
    while !bytes.is_empty() {
        // One frame: as long as its header and what the header says.
        let length = bytes.len() - frame::payload(bytes).len() + payload_bytes(bytes);
        let (one, rest) = bytes.split_at(length);
        bytes = rest;
        if one[0] & 0x40 == 0 {
            plain.extend_from_slice(one);
            continue;
        }
        assert_eq!(one[0], 0xC1, "only whole text messages are compressed here");
        let text = Inflater::new().inflate(frame::payload(one), 1 << 20, <[u8]>::to_vec).unwrap();
        frame::encode(frame::OpCode::Text, &text, &mut plain);
        count += 1;
    }
    (frames(&plain), count)
}

fn joined(slices: &[io::IoSlice<'_>]) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.iter().copied()).collect()
}

fn payload_bytes(frame: &[u8]) -> usize {
    match frame[1] {
        126 => usize::from(u16::from_be_bytes([frame[2], frame[3]])),
        127 => panic!("no message here is that long"),
        short => usize::from(short),
    }
}

impl Scene {
    /// As [`Scene::read`], for a connection with that window; how many were compressed.
    fn read_deflated(&mut self, conn: ConnId, window: Window) -> (Vec<String>, usize) {
        let mut bytes = Vec::new();
        let flushed = self.hub.flush_deflated(self.now, conn, window, &mut |slices| {
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!(flushed, Flushed::Drained);
        inflated(&bytes)
    }

    fn compressed(&self) -> u64 {
        self.cells.deflated.messages.get()
    }
}

#[test]
fn a_message_is_compressed_once_for_all_who_take_it_so() {
    let mut scene = scene();
    let conns: Vec<ConnId> = (0..5).map(|slot| scene.anonymous(slot)).collect();
    scene.deliver(&event(Target::Everyone, &long(1)));
    let plain = scene.read(conns[0]);
    assert_eq!(scene.compressed(), 0, "nobody needed it yet");
    for conn in &conns[1..] {
        assert_eq!(scene.read_deflated(*conn, WINDOW), (plain.clone(), 1));
    }
    assert_eq!(scene.compressed(), 1);
    let (before, after) = (scene.cells.deflated.bytes_before.get(), scene.cells.deflated.bytes_after.get());
    assert_eq!(before, plain[0].len() as u64);
    assert!(after * 3 < before, "{after} of {before}");
}

#[test]
fn short_messages_and_control_frames_go_as_they_are() {
    let mut scene = scene();
    let conn = scene.anonymous(0);
    scene.deliver(&event(Target::Everyone, "1"));
    scene.handle(Input::Ping { conn, payload: &[b'a'; 125] });
    scene.handle(Input::PeerClose { conn, code: Some(1000) });
    let (frames, count) = scene.read_deflated(conn, WINDOW);
    assert_eq!((frames.len(), count, scene.compressed()), (3, 0, 0));
    assert_eq!(scene.cells.deflated.in_vain.get(), 0, "it was not even tried");
}

#[test]
fn what_does_not_become_smaller_goes_as_it_is_and_is_tried_once() {
    let mut scene = Scene::with_custom(CustomTypes { raw: true, ..CustomTypes::default() }, |settings| {
        settings.client.compression = true;
    });
    let conn = scene.raw(0);
    let mut state = 1_u64;
    let mut chance = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..1_000).map(|_| chance()).collect();
    let reply = crate::handler::Reply::Binary(noise.clone());
    scene.handle(Input::Reply { conn, request: None, reply });
    let mut bytes = Vec::new();
    for _ in 0..11 {
        let mut room = 100;
        scene.hub.flush_deflated(scene.now, conn, WINDOW, &mut |slices| {
            let offered = joined(slices);
            let taken = narrow(&mut room)(slices)?;
            bytes.extend_from_slice(&offered[..taken]);
            Ok(taken)
        });
    }
    assert_eq!((bytes[0], frame::payload(&bytes)), (0x82, noise.as_slice()));
    assert_eq!((scene.compressed(), scene.cells.deflated.in_vain.get()), (0, 1));
}

#[test]
fn what_was_conflated_was_never_compressed() {
    let mut scene = scene();
    let conn = scene.anonymous(0);
    for number in 0..10 {
        scene.deliver(&latest(1, &long(number)));
    }
    let (frames, count) = scene.read_deflated(conn, WINDOW);
    assert_one(&frames, &[r#""number":9"#]);
    assert_eq!((count, scene.compressed()), (1, 1));
}

#[test]
fn a_small_window_gets_what_it_can_look_back_on() {
    let mut scene = scene();
    let conns: Vec<ConnId> = (0..3).map(|slot| scene.anonymous(slot)).collect();
    let messages = [long(0), "x".repeat(2_000), "y".repeat(40_000)];
    for message in &messages {
        scene.deliver(&event(Target::Everyone, &format!("\"{message}\"")));
    }
    let plain = scene.read(conns[0]);
    let small = Window::of_bits(10).unwrap();
    assert_eq!(scene.read_deflated(conns[1], small), (plain.clone(), 1));
    assert_eq!(scene.read_deflated(conns[2], WINDOW), (plain, 3));
}

#[test]
fn however_little_a_socket_takes_at_once_every_frame_comes_whole() {
    for seed in 0..40_usize {
        let mut scene = scene();
        let windows = [None, Some(WINDOW), Window::of_bits(9), Some(WINDOW)];
        let conns: Vec<ConnId> = (0..4).map(|slot| scene.anonymous(slot)).collect();
        let mut received = vec![Vec::new(); 4];
        let mut expected = Vec::new();
        for step in 0..60_usize {
            let chance = (seed * 7_919 + step * 104_729) % 1_009;
            let payload = if chance % 3 == 0 { chance.to_string() } else { long(chance) };
            scene.deliver(&event(Target::Everyone, &payload));
            expected.push(payload);
            let who = chance % 4;
            let mut room = 1 + chance % 300;
            let flush: &mut dyn FnMut(&[io::IoSlice<'_>]) -> io::Result<usize> = &mut |slices| {
                let bytes = joined(slices);
                let taken = narrow(&mut room)(slices)?;
                received[who].extend_from_slice(&bytes[..taken]);
                Ok(taken)
            };
            match windows[who] {
                None => scene.hub.flush(scene.now, conns[who], flush),
                Some(window) => scene.hub.flush_deflated(scene.now, conns[who], window, flush),
            };
        }
        for (who, bytes) in received.iter_mut().enumerate() {
            let mut rest = |slices: &[io::IoSlice<'_>]| {
                bytes.extend(joined(slices));
                Ok(joined(slices).len())
            };
            match windows[who] {
                None => scene.hub.flush(scene.now, conns[who], &mut rest),
                Some(window) => scene.hub.flush_deflated(scene.now, conns[who], window, &mut rest),
            };
            let (frames, count) = inflated(bytes);
            assert_eq!(frames.len(), expected.len(), "seed {seed}, {who}");
            assert!(frames.iter().zip(&expected).all(|(frame, payload)| frame.contains(payload)));
            assert_eq!(count > 0, windows[who].is_some(), "seed {seed}, {who}");
        }
    }
}

#[test]
fn where_compression_is_off_nothing_is_compressed() {
    let mut scene = Scene::new();
    let conn = scene.anonymous(0);
    scene.deliver(&event(Target::Everyone, &long(1)));
    let (frames, count) = scene.read_deflated(conn, WINDOW);
    assert_eq!((frames.len(), count), (1, 0));
}
