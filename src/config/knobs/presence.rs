//! The rows of who is connected, over all instances.

use std::time::Duration;

use super::{
    Knob,
    table::{HOUR, INSTANT, knob, seconds, time_or_ms},
};

pub(super) const PRESENCE: &[Knob] = &[
    knob(
        "PRESENCE_INTERVAL",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.presence.interval = v),
        "5s",
        "Between two times that an instance tells the others that it lives",
    ),
    knob(
        "PRESENCE_TIMEOUT",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.presence.timeout = v),
        "15s",
        "Silence after which an instance's users count no more; more than PRESENCE_INTERVAL",
    ),
    knob(
        "PRESENCE_CLEANUP_INTERVAL",
        time_or_ms(seconds(60), HOUR, |d, v| d.settings.presence.repeat_interval = v),
        "5m",
        "Between two times that an instance tells all its counts again, which mends what was lost",
    ),
    knob(
        "PRESENCE_GRACE",
        time_or_ms(Duration::ZERO, HOUR, |d, v| d.settings.presence.grace = v),
        "10s",
        "Who left comes back within, or is announced as offline",
    ),
];
