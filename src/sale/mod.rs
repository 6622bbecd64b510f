//! The rules of a sale. Pure: no clock, no sockets, no dice; commands and the time are parameters.
//!
//! Owns the waiting rooms: a queue is a state that the commands of its log lead to, the same on every instance that
//! applies them in order. Never decides outside of applying, never tells anybody: effects and lines go to whoever
//! drives it. To read it: [`command`] (what is in the log), [`queue`] (the rules), [`fair`] and
//! [`receipt`] (what the shuffle proves), [`pass`] (what the admitted show).

pub mod command;
pub mod fair;
pub mod inlet;
pub mod merkle;
pub mod pace;
pub mod pass;
pub mod place;
pub mod queue;
pub mod queues;
pub mod receipt;
pub mod standing;

mod holders;
