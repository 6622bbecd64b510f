//! The worker's ends of the pipes to its parent: one JSON line each way.

use std::{
    io::{self, Write as _},
    os::fd::AsFd,
};

use crate::order::Report;

/// Tells the parent.
pub(super) fn report(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}

/// Lines from stdin.
#[derive(Default)]
pub(super) struct Orders {
    bytes: Vec<u8>,
}

impl Orders {
    /// Reads once; `false` at the end of stdin.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let count = rustix::io::read(io::stdin().as_fd(), &mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The oldest whole line.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        Some(self.bytes.drain(..=end).collect())
    }

    /// The next line, when it has come; `None` at the end of stdin.
    pub(super) fn next_blocking(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.next() {
                return Ok(Some(line));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }
}
