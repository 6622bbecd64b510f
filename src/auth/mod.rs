//! Keys and tokens in, identities out; and keys that the gateway itself signs with. Pure: time is a parameter, key files are
//! read by `control::keys` and `control::passes`.

pub mod claims;
pub mod failures;
pub mod keys;
pub mod origin;
pub mod signing;
pub mod token;

#[cfg(test)]
mod tests;

pub use failures::Failures;
pub use keys::KeySet;
pub use signing::SigningKeys;
pub use token::{TokenError, Verifier};
