//! The desk's ticks: what is too old goes, and gauges are written down.
//!
//! Owns nothing. Talks to the router, the backend and the links, as the desk does.

use super::Desk;
use crate::{
    clock::Now,
    metrics::Cell,
    net::listener,
    route::{Input, lines},
};

const SECOND_NS: u64 = 1_000_000_000;

impl Desk {
    /// Writes gauges down, and once a second lets go of what is too old.
    pub(in crate::control) fn tick(&mut self, now: Now) {
        if now.mono_ns >= self.second_ends_ns {
            self.second(now);
        }
        self.announce(now);
        self.learn_lease(now);
        self.route_viewed(now, |shards| Input::Clock { shards });
        let leads = self.backend.leads(now);
        let others = self.route.others();
        let is_wanted = leads && self.waiting_rooms.lines.queues().iter().any(|queue| !queue.is_over());
        let target = self.target.look(now, is_wanted, &self.status.control.queues);
        self.lines_input(now, lines::io::Input::Tick { leads, others, target });
        let cells = &self.status.control;
        let directory = self.route.directory();
        cells.users.set(directory.user_count() as u64);
        cells.rooms.set(directory.room_count() as u64);
        cells.memberships.set(directory.membership_count());
        cells.instances.set(self.route.instances() as u64 + 1);
        self.measure();
        self.measure_lines();
    }

    fn second(&mut self, now: Now) {
        let length_ns = now.mono_ns.saturating_sub(self.second_ends_ns) + SECOND_NS;
        let sum = |table: &[Cell]| table.iter().map(Cell::get).sum::<u64>();
        let messages: u64 =
            self.status.cells.iter().map(|cells| sum(&cells.sent.0) + sum(&cells.received.0)).sum();
        if self.second_ends_ns > 0 {
            let rate =
                u128::from(messages - self.messages_before) * u128::from(SECOND_NS) / u128::from(length_ns);
            self.status.control.messages_per_second.set(rate as u64);
        }
        if let Some(lost) = listener::lost() {
            self.status.control.accept_queue_overflows.set(lost.overflows);
            self.status.control.accept_queue_drops.set(lost.drops);
        }
        self.messages_before = messages;
        self.second_ends_ns = now.mono_ns + SECOND_NS;
        self.backend.expire(now);
        self.route_viewed(now, |shards| Input::Tick { shards });
    }

    fn measure_ingest(&self) {
        let (cells, counts) = (&self.status.control.foreign, self.route.ingest_counts());
        let (kept, bytes) = self.route.ingest_kept();
        cells.kept.set(kept as u64);
        cells.bytes.set(bytes as u64);
        cells.rescued.set(counts.rescued);
        cells.found.set(counts.found);
        cells.overflowed.set(counts.overflowed);
        cells.lapsed.set(counts.lapsed);
    }

    fn measure(&self) {
        let cells = &self.status.control;
        let (counts, sequencer) = (self.route.counts(), self.route.sequencer());
        for (cell, count) in cells.accepted.iter().zip(counts.accepted) {
            cell.set(count);
        }
        cells.repeated.set(counts.repeated);
        cells.stale.set(counts.stale);
        cells.overloaded.set(counts.overloaded);
        cells.key_reused.set(counts.key_reused);
        cells.admitted.set(counts.admitted);
        cells.denied.set(counts.denied);
        cells.overlooked.set(self.route.overlooked());
        cells.unheard.set(self.route.unheard());
        cells.joined.set(counts.joined);
        cells.rooms_full.set(counts.rooms_full);
        cells.appends.set(counts.appended);
        cells.appends_failed.set(counts.appends_failed);
        cells.stream_reads.set(counts.reads);
        cells.stream_reads_refused.set(counts.reads_refused);
        cells.gaps.set(counts.gaps);
        cells.gap_events.set(counts.filled);
        cells.resyncs.set(counts.resyncs);
        cells.appends_forgotten.set(self.route.appends_forgotten());
        cells.heard.set(counts.heard);
        cells.heard_lost.set(counts.lost);
        let latest = self.route.latest();
        cells.latest.values.set(latest.len() as u64);
        cells.latest.bytes.set(latest.bytes() as u64);
        cells.latest.evicted.set(latest.evicted());
        cells.latest.shown.set(counts.latest_shown);
        cells.latest.unsaved.set(counts.latest_unsaved);
        cells.store_asked.set(self.route.asked().0 as u64);
        self.measure_ingest();
        self.backend.measure(cells);
        cells.idempotency_keys.set((sequencer.key_count() + self.backend.key_count()) as u64);
        cells.versions.set(sequencer.version_count() as u64);
        for (link, cells) in self.links.iter().zip(&cells.mailboxes) {
            link.measure(cells);
        }
    }
}
