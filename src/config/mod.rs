//! Configuration in two stages: what was typed ([`raw`]), then what the code uses ([`settings`]).
//!
//! Owns the table of everything that can be configured ([`knobs`]): names, meanings, defaults, bounds and where
//! each value goes. Environment, file keys, flags, `usher check` and README all come from that one table.
//! Never starts anything.
//!
//! Reading order: `settings`, `knobs`, `kind`, `raw`, `file`, `resolve`.

pub mod draft;
pub mod duration;
pub mod error;
pub mod file;
pub mod kind;
pub mod knobs;
mod limits;
pub mod raw;
pub mod redis;
pub mod reference;
pub mod resolve;
pub mod settings;

#[cfg(test)]
mod tests;

pub use settings::Settings;
