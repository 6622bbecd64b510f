//! Keys and tokens in, identities out. Pure: time is a parameter, key sources are read by `control::keys`.

pub mod claims;
pub mod failures;
pub mod keys;
pub mod origin;
pub mod token;

#[cfg(test)]
mod tests;

pub use failures::Failures;
pub use keys::KeySet;
pub use token::{TokenError, Verifier};
