//! The wire: bytes in, commands out; events in, frames out. Pure.

pub mod close;
pub mod command;
pub mod deflate;
pub mod frame;
pub mod json;
pub mod room;
pub mod ticketing;
