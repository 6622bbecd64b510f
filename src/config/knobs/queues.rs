//! The rows about waiting rooms as a whole (03 §10).

use Kind::{List, Path};

use super::{Knob, checks::target, table::knob};
use crate::config::kind::Kind;

pub(super) const QUEUES: &[Knob] = &[
    knob(
        "QUEUE_READY_URLS",
        List(target, |d, v| d.settings.queues.ready_urls = v),
        "(none)",
        "Inlets pause while one of these does not answer with 2xx: /ready of what sells; 8 at most",
    ),
    knob(
        "QUEUE_READY_CA",
        Path(|d, v| d.settings.queues.ready_ca = Some(v)),
        "(those of the system)",
        "Authorities that certificates of QUEUE_READY_URLS are checked against, PEM",
    ),
];
