//! Reads frames of one peer and joins fragments (RFC 6455 §5).
//!
//! Owns what is left of an unfinished frame or message, nothing else: an idle decoder is a null pointer. Never
//! allocates by a declared length, only for bytes that came. Invariants: a frame's header is judged before
//! a byte of its payload is kept; a message is never longer than the limit; after an error or a close frame
//! nothing more is read.

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
        if let Some(state) = &mut self.partial {
            let result = state.read(limits, input, on);
            if state.is_idle() {
                self.partial = None;
            }
            return result;
        }
        let mut state = State::default();
        let result = state.read(limits, input, on);
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
}

impl State {
    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Header { length: 0, .. }) && self.message.is_none()
    }

    fn read(
        &mut self,
        limits: &FrameLimits,
        input: &mut [u8],
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Close> {
        let result = self.read_frames(limits, input, on);
        if result.is_err() {
            *self = Self { stage: Stage::Ended, ..Self::default() };
        }
        result
    }

    fn read_frames(
        &mut self,
        limits: &FrameLimits,
        mut input: &mut [u8],
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Close> {
        loop {
            match &mut self.stage {
                Stage::Header { bytes, length } => {
                    let Some((header, payload_bytes, used)) = read_header(bytes, length, input)? else {
                        return Ok(());
                    };
                    input = &mut input[used..];
                    self.stage = Stage::Payload(self.admit(limits, &header, payload_bytes)?);
                }
                Stage::Payload(frame) => {
                    let (piece, rest) = input.split_at_mut(frame.left.min(input.len()));
                    input = rest;
                    unmask(piece, frame.mask);
                    frame.mask.rotate_left(piece.len() % 4);
                    frame.left -= piece.len();
                    let frame = *frame;
                    match frame.op {
                        OpCode::Control(control) => self.take_control(control, frame, piece, on)?,
                        OpCode::Data(_) => self.take_data(frame, piece, on)?,
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
    fn admit(&self, limits: &FrameLimits, header: &FrameHeader, length: u64) -> Result<Frame, Close> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
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
            OpCode::Data(data) => self.admit_data(limits, data, length)?,
        }
        let left = usize::try_from(length).map_err(|_| Close::TooBig)?;
        Ok(Frame { op: header.opcode, is_final: header.is_final, mask, left })
    }

    /// Judges a data frame by the message that it begins or continues.
    fn admit_data(&self, limits: &FrameLimits, data: Data, length: u64) -> Result<(), Close> {
        let (bytes, fragments) = match (&self.message, data) {
            (Some(message), Data::Continue) => (message.len(), message.fragment_count),
            (None, Data::Continue) => return Err(Close::Protocol("nothing to continue")),
            (Some(_), _) => return Err(Close::Protocol("a message must end before the next begins")),
            (None, _) => (0, 0),
        };
        if length > limits.message_bytes_max.saturating_sub(bytes) as u64 {
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
        on: &mut dyn FnMut(Incoming<'_>),
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
            Control::Ping => on(Incoming::Ping(payload)),
            Control::Close => {
                let code = close_code(payload)?;
                *self = Self { stage: Stage::Ended, ..Self::default() };
                on(Incoming::Close(code));
            }
            // tungstenite refuses reserved op codes before this.
            Control::Pong | Control::Reserved(_) => on(Incoming::Pong),
        }
        Ok(())
    }

    fn take_data(
        &mut self,
        frame: Frame,
        piece: &[u8],
        on: &mut dyn FnMut(Incoming<'_>),
    ) -> Result<(), Close> {
        let is_text = frame.op == OpCode::Data(Data::Text);
        let frame_ended = frame.left == 0;
        if frame_ended {
            self.stage = Stage::default();
        }
        if frame_ended && frame.is_final && self.message.is_none() {
            on(if is_text { Incoming::Text(str::from_utf8(piece)?) } else { Incoming::Binary(piece) });
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| Message::new(is_text));
        message.append(piece)?;
        if !frame_ended {
            return Ok(());
        }
        message.fragment_count += 1;
        if frame.is_final {
            message.finish(on)?;
            self.message = None;
        }
        Ok(())
    }
}

impl Message {
    fn new(is_text: bool) -> Self {
        let body = if is_text { Body::Text(TextBuffer::default()) } else { Body::Binary(Vec::new()) };
        Self { body, fragment_count: 0 }
    }

    fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Close> {
        match &mut self.body {
            Body::Text(text) => text.append(piece)?,
            Body::Binary(bytes) => bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    fn finish(&self, on: &mut dyn FnMut(Incoming<'_>)) -> Result<(), Close> {
        match &self.body {
            Body::Text(text) => on(Incoming::Text(text.finish()?)),
            Body::Binary(bytes) => on(Incoming::Binary(bytes)),
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
