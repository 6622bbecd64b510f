//! Reads frames of one peer and joins fragments (RFC 6455 §5).
//!
//! Owns what is left of an unfinished frame or message, nothing else: an idle decoder is a null pointer. Never
//! allocates by a declared length, only for bytes that came. Invariants: a frame's header is judged before
//! a byte of its payload is kept; a message is never longer than the limit; after an error or a close frame
//! nothing more is read. A compressed message is kept as it came and inflated when it is whole, since connections
//! share their inflater.

use std::io::Cursor;

use tungstenite::{
    Error,
    error::ProtocolError,
    protocol::frame::{
        FrameHeader,
        coding::{CloseCode, Control, Data, OpCode},
    },
};

use super::{
    Close, FrameLimits, Incoming,
    utf8::{NotUtf8, TextBuffer},
};
use crate::wire::deflate::Inflater;

/// Longest frame header: 2 bytes, a 64-bit length, a mask (RFC 6455 §5.2).
const HEADER_BYTES_MAX: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// Bad Gateway: registered with IANA after RFC 6455, unknown to tungstenite.
const CLOSE_CODE_BAD_GATEWAY: u16 = 1014;

/// Reads frames of one peer; what is left of a partial frame is kept here, an idle one is a null pointer.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<State>>,
}

impl Decoder {
    /// Takes the next bytes from the socket, unmasks them in place, calls `on` for each whole control frame and message.
    ///
    /// # Errors
    ///
    /// The violation that the connection must be closed with: 1002, 1007, 1008 or 1009. Everything after it is
    /// ignored, as is everything after a close frame.
    pub fn decode(
        &mut self,
        limits: &FrameLimits,
        input: &mut [u8],
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Close> {
        let mut on = |incoming: Incoming<'_>| {
            on(incoming);
            true
        };
        self.read(&mut Call { limits, inflater: None, on: &mut on, heard: true }, input)
    }

    /// As [`Decoder::decode`], for a connection that negotiated permessage-deflate: messages may be compressed
    /// (RFC 7692 §6). `on` tells whether anybody listens still: where not, what is compressed is left out, lest a
    /// peer that is shut out goes on to keep the inflater busy.
    ///
    /// # Errors
    ///
    /// As there, and 1007 for a message that cannot be inflated.
    pub fn decode_deflated(
        &mut self,
        limits: &FrameLimits,
        inflater: &mut Inflater,
        input: &mut [u8],
        on: &mut dyn FnMut(Incoming<'_>) -> bool,
    ) -> Result<(), Close> {
        self.read(&mut Call { limits, inflater: Some(inflater), on, heard: true }, input)
    }

    fn read(&mut self, call: &mut Call<'_>, input: &mut [u8]) -> Result<(), Close> {
        if let Some(state) = &mut self.partial {
            let result = state.read(call, input);
            if state.is_idle() {
                self.partial = None;
            }
            return result;
        }
        let mut state = State::default();
        let result = state.read(call, input);
        if !state.is_idle() {
            self.partial = Some(Box::new(state));
        }
        result
    }

    /// Whether nothing of a frame or message is kept.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }
}

/// What one call is about.
struct Call<'a> {
    limits: &'a FrameLimits,
    /// `None`: no extension was negotiated.
    inflater: Option<&'a mut Inflater>,
    on: &'a mut dyn FnMut(Incoming<'_>) -> bool,
    /// Whether anybody listens still.
    heard: bool,
}

impl Call<'_> {
    fn tell(&mut self, incoming: Incoming<'_>) {
        self.heard = (self.on)(incoming);
    }

    /// Tells a whole compressed message.
    fn tell_deflated(&mut self, compressed: &[u8], is_text: bool) -> Result<(), Close> {
        let Self { limits, inflater, on, heard } = self;
        // Without an inflater no frame was admitted as a compressed one.
        let Some(inflater) = inflater.as_mut().filter(|_| *heard) else { return Ok(()) };
        inflater.inflate(compressed, limits.message_bytes_max, |payload| {
            let text = is_text.then(|| str::from_utf8(payload)).transpose()?;
            *heard = on(text.map_or(Incoming::Binary(payload), Incoming::Text));
            Ok(())
        })?
    }
}

/// Where in the stream of bytes the decoder is.
#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// The message that has begun; `None`: the next data frame begins one.
    message: Option<Message>,
    /// Payload of an unfinished control frame.
    control: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// Before or within a header: its first `length` bytes came.
    Header { bytes: [u8; HEADER_BYTES_MAX], length: usize },
    /// Within a payload.
    Payload(Frame),
    /// Nothing more is read.
    Ended,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Header { bytes: [0; HEADER_BYTES_MAX], length: 0 }
    }
}

/// A frame whose header is in order.
#[derive(Clone, Copy, Debug)]
struct Frame {
    op: OpCode,
    is_final: bool,
    /// Whether it begins a compressed message.
    is_deflated: bool,
    /// Rotated to the next byte.
    mask: [u8; 4],
    /// Bytes of the payload still to come.
    left: usize,
}

/// A message that did not come in one piece.
#[derive(Debug)]
struct Message {
    body: Body,
    /// Frames that ended.
    fragment_count: u32,
}

#[derive(Debug)]
enum Body {
    Text(TextBuffer),
    Binary(Vec<u8>),
    /// As it came.
    Deflated {
        bytes: Vec<u8>,
        is_text: bool,
    },
}

impl State {
    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Header { length: 0, .. }) && self.message.is_none()
    }

    fn read(&mut self, call: &mut Call<'_>, input: &mut [u8]) -> Result<(), Close> {
        let result = self.read_frames(call, input);
        if result.is_err() {
            *self = Self { stage: Stage::Ended, ..Self::default() };
        }
        result
    }

    fn read_frames(&mut self, call: &mut Call<'_>, mut input: &mut [u8]) -> Result<(), Close> {
        loop {
            match &mut self.stage {
                Stage::Header { bytes, length } => {
                    let Some((header, payload_bytes, used)) = read_header(bytes, length, input)? else {
                        return Ok(());
                    };
                    input = &mut input[used..];
                    self.stage = Stage::Payload(self.admit(call, &header, payload_bytes)?);
                }
                Stage::Payload(frame) => {
                    let (piece, rest) = input.split_at_mut(frame.left.min(input.len()));
                    input = rest;
                    unmask(piece, frame.mask);
                    frame.mask.rotate_left(piece.len() % 4);
                    frame.left -= piece.len();
                    let frame = *frame;
                    match frame.op {
                        OpCode::Control(control) => self.take_control(control, frame, piece, call)?,
                        OpCode::Data(_) => self.take_data(frame, piece, call)?,
                    }
                    if frame.left > 0 {
                        return Ok(());
                    }
                }
                Stage::Ended => return Ok(()),
            }
        }
    }

    /// Judges a frame by its header (RFC 6455 §5.2, §5.4, §5.5).
    fn admit(&self, call: &Call<'_>, header: &FrameHeader, length: u64) -> Result<Frame, Close> {
        // "…an endpoint MUST NOT set the Per-Message Compressed bit of control frames and non-first fragments of a data
        // message" (RFC 7692 §6.1)
        let is_first = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        if header.rsv1 && !(is_first && call.inflater.is_some()) || header.rsv2 || header.rsv3 {
            return Err(Close::Protocol("reserved bits must be zero"));
        }
        let Some(mask) = header.mask else {
            return Err(Close::Protocol("client frames must be masked"));
        };
        if length >> 63 == 1 {
            return Err(Close::Protocol("the top bit of a 64-bit length must be zero"));
        }
        match header.opcode {
            OpCode::Control(_) if length > CONTROL_BYTES_MAX => {
                return Err(Close::Protocol("control frames have at most 125 bytes"));
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(Close::Protocol("control frames must not be fragmented"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(data) => self.admit_data(call.limits, data, header.rsv1, length)?,
        }
        let left = usize::try_from(length).map_err(|_| Close::TooBig)?;
        Ok(Frame { op: header.opcode, is_final: header.is_final, is_deflated: header.rsv1, mask, left })
    }

    /// Judges a data frame by the message that it begins or continues.
    fn admit_data(
        &self,
        limits: &FrameLimits,
        data: Data,
        begins_deflated: bool,
        length: u64,
    ) -> Result<(), Close> {
        let (bytes, fragments, is_deflated) = match (&self.message, data) {
            (Some(message), Data::Continue) => (message.len(), message.fragment_count, message.is_deflated()),
            (None, Data::Continue) => return Err(Close::Protocol("nothing to continue")),
            (Some(_), _) => return Err(Close::Protocol("a message must end before the next begins")),
            (None, _) => (0, 0, begins_deflated),
        };
        let bytes_max = match is_deflated {
            true => Inflater::compressed_bytes_max(limits.message_bytes_max),
            false => limits.message_bytes_max,
        };
        if length > bytes_max.saturating_sub(bytes) as u64 {
            return Err(Close::TooBig);
        }
        if fragments >= limits.fragments_max {
            return Err(Close::TooManyFragments);
        }
        Ok(())
    }

    fn take_control(
        &mut self,
        control: Control,
        frame: Frame,
        piece: &[u8],
        call: &mut Call<'_>,
    ) -> Result<(), Close> {
        if frame.left > 0 {
            self.control.extend_from_slice(piece);
            return Ok(());
        }
        self.stage = Stage::default();
        let kept;
        let payload = if self.control.is_empty() {
            piece
        } else {
            self.control.extend_from_slice(piece);
            kept = std::mem::take(&mut self.control);
            &kept
        };
        match control {
            Control::Ping => call.tell(Incoming::Ping(payload)),
            Control::Close => {
                let code = close_code(payload)?;
                *self = Self { stage: Stage::Ended, ..Self::default() };
                call.tell(Incoming::Close(code));
            }
            // tungstenite refuses reserved op codes before this.
            Control::Pong | Control::Reserved(_) => call.tell(Incoming::Pong),
        }
        Ok(())
    }

    fn take_data(&mut self, frame: Frame, piece: &[u8], call: &mut Call<'_>) -> Result<(), Close> {
        let is_text = frame.op == OpCode::Data(Data::Text);
        let frame_ended = frame.left == 0;
        if frame_ended {
            self.stage = Stage::default();
        }
        if frame_ended && frame.is_final && self.message.is_none() {
            match (frame.is_deflated, is_text) {
                (true, _) => call.tell_deflated(piece, is_text)?,
                (false, true) => call.tell(Incoming::Text(str::from_utf8(piece)?)),
                (false, false) => call.tell(Incoming::Binary(piece)),
            }
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| Message::new(is_text, frame.is_deflated));
        message.append(piece)?;
        if !frame_ended {
            return Ok(());
        }
        message.fragment_count += 1;
        if frame.is_final {
            message.finish(call)?;
            self.message = None;
        }
        Ok(())
    }
}

impl Message {
    fn new(is_text: bool, is_deflated: bool) -> Self {
        let body = match (is_deflated, is_text) {
            (true, _) => Body::Deflated { bytes: Vec::new(), is_text },
            (false, true) => Body::Text(TextBuffer::default()),
            (false, false) => Body::Binary(Vec::new()),
        };
        Self { body, fragment_count: 0 }
    }

    fn is_deflated(&self) -> bool {
        matches!(self.body, Body::Deflated { .. })
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) | Body::Deflated { bytes, .. } => bytes.len(),
        }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Close> {
        match &mut self.body {
            Body::Text(text) => text.append(piece)?,
            Body::Binary(bytes) | Body::Deflated { bytes, .. } => bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    fn finish(&self, call: &mut Call<'_>) -> Result<(), Close> {
        match &self.body {
            Body::Text(text) => call.tell(Incoming::Text(text.finish()?)),
            Body::Binary(bytes) => call.tell(Incoming::Binary(bytes)),
            Body::Deflated { bytes, is_text } => call.tell_deflated(bytes, *is_text)?,
        }
        Ok(())
    }
}

impl From<NotUtf8> for Close {
    fn from(_: NotUtf8) -> Self {
        Self::InvalidText
    }
}

impl From<std::str::Utf8Error> for Close {
    fn from(_: std::str::Utf8Error) -> Self {
        Self::InvalidText
    }
}

/// The next header, the length of the payload and the bytes of `input` that it used; `None` when it is unfinished, and
/// all of `input` kept.
fn read_header(
    kept: &mut [u8; HEADER_BYTES_MAX],
    kept_bytes: &mut usize,
    input: &[u8],
) -> Result<Option<(FrameHeader, u64, usize)>, Close> {
    let kept_before = *kept_bytes;
    let added = input.len().min(HEADER_BYTES_MAX - kept_before);
    let parsed = if kept_before == 0 {
        parse_header(input)?
    } else {
        kept[kept_before..kept_before + added].copy_from_slice(&input[..added]);
        parse_header(&kept[..kept_before + added])?
    };
    if parsed.is_none() {
        kept[kept_before..kept_before + added].copy_from_slice(&input[..added]);
        *kept_bytes += added;
    }
    Ok(parsed.map(|(header, length, header_bytes)| (header, length, header_bytes - kept_before)))
}

/// The header at the beginning of `bytes`, the length of the payload and that of the header.
fn parse_header(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Close> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|error| match error {
        Error::Protocol(ProtocolError::InvalidOpcode(_)) => Close::Protocol("reserved op code"),
        _ => Close::Protocol("bad frame header"),
    })?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let header_bytes = cursor.position() as usize;
    // RFC 6455 §5.2: "the minimal number of bytes MUST be used to encode the length".
    if header.len(length) != header_bytes {
        return Err(Close::Protocol("a length must be encoded in the fewest bytes"));
    }
    Ok(Some((header, length, header_bytes)))
}

/// The code of a close frame (RFC 6455 §5.5.1, §7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Close::Protocol("close frame of one byte")) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() && code != CLOSE_CODE_BAD_GATEWAY {
        return Err(Close::Protocol("invalid close code"));
    }
    str::from_utf8(reason)?;
    Ok(Some(code))
}

/// Removes the mask, eight bytes at a time (RFC 6455 §5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}
