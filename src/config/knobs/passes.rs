//! The rows about passes and receipts (03 §10).

use Kind::{Choice, Path, Text};

use super::{Knob, checks::issuer, table::knob};
use crate::config::{kind::Kind, settings::PassAlgorithm};

pub(super) const PASSES: &[Knob] = &[
    knob(
        "PASS_KEY_FILE",
        Path(|d, v| d.settings.passes.key = Some(v)),
        "(made at every start)",
        "Private key that signs passes and receipts, PKCS #8 PEM; the same on all instances; read again on change",
    ),
    knob(
        "PASS_OTHER_KEYS_FILE",
        Path(|d, v| d.settings.passes.other_keys = Some(v)),
        "(none)",
        "Keys published beside it while one replaces the other, private or public, PEM; may be empty",
    ),
    knob(
        "PASS_ALGORITHM",
        Choice(&["EdDSA", "ES256"], &[], |d, v| {
            d.settings.passes.algorithm =
                Some(if v == "ES256" { PassAlgorithm::Es256 } else { PassAlgorithm::EdDsa });
        }),
        "(that of PASS_KEY_FILE, else EdDSA)",
        "What passes are signed with: EdDSA (Ed25519) or ES256",
    ),
    knob("PASS_ISSUER", Text(issuer, |d, v| d.settings.passes.issuer = v), "usher", "What passes say in iss"),
];
