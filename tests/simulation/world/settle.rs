//! What must have come of everything: fates, decisions, completeness, emptiness.

use super::*;

impl World {
    /// Tells clients what became of their sockets.
    pub(super) fn settle_fates(&mut self) {
        for shard in &mut self.shards {
            for (number, fate) in shard.fates.drain(..) {
                let client = &mut self.clients[number];
                match fate {
                    Fate::Upgraded => {}
                    Fate::Rejected(status) => {
                        let said = status == 429 || status == 503 || client.revoked;
                        assert!(said, "refused with {status}");
                        self.totals.refused_429 += u64::from(status == 429);
                        client.state = State::Refused(status);
                    }
                    Fate::Ended(rest) if client.state == State::Gone => drop(rest),
                    Fate::Ended(rest) => {
                        for reaction in client.hear(&self.oracle, &rest) {
                            if let Reaction::Close(code) = reaction {
                                *self.totals.closed.entry(code).or_default() += 1;
                            }
                        }
                        client.cut_off(self.now.mono_ns);
                    }
                }
            }
        }
    }

    /// Writes down what control decided, in its order.
    pub(super) fn settle_decisions(&mut self) {
        for decision in std::mem::take(&mut self.control.decisions) {
            match decision {
                Decision::Admitted(conn, position) => {
                    let client = &mut self.clients[self.by_conn[&conn]];
                    let user = client.login.clone().expect("users are admitted");
                    // Who is gone meanwhile has no claims any more.
                    if client.is_alive() && client.conn == conn {
                        client.admitted(&self.oracle, user, position);
                    }
                }
                Decision::Entered(conn, attempt, entry) => self.entered(conn, attempt, &entry),
                Decision::Published(event, Ok(receipt)) => self.note(&event, &receipt),
                Decision::Published(_, Err(_)) => self.totals.overloaded += 1,
            }
        }
    }

    fn entered(&mut self, conn: ConnId, attempt: u32, entry: &RoomEntry) {
        let (request, room) = self.attempts[&(conn, attempt)];
        let target = Target::Room(room.into());
        let kept = entry.position.as_ref().map(|position| position.offset);
        let head = (room == "sale:1").then(|| self.oracle.head(&target));
        assert_eq!(kept, head, "the position is that of the last stored event");
        let max = self.room_members_max;
        assert!(max == 0 || entry.members as usize <= max);
        let claim = Claim::new(&self.oracle, target, true);
        self.clients[self.by_conn[&conn]].entered.insert(request, (claim, entry.position.clone()));
        self.totals.entered += 1;
    }

    pub(super) fn check_room_sizes(&self) {
        for room in ROOMS {
            let members: usize = self.shards.iter().map(|shard| shard.hub.room_members(room)).sum();
            let max = self.room_members_max;
            assert!(max == 0 || members <= max, "{room} has {members} members of {max}");
        }
    }

    pub(super) fn note(&mut self, event: &Event, receipt: &Receipt) {
        let payload: serde_json::Value = serde_json::from_slice(&event.payload).expect("payloads are JSON");
        match &event.class {
            Class::Critical | Class::Ordered => {
                let offset = receipt.position.as_ref().map(|position| position.offset);
                self.oracle.accepted(&event.target, Entry { id: id_of(&payload), offset });
                let count =
                    if offset.is_some() { &mut self.totals.critical } else { &mut self.totals.ordered };
                *count += 1;
            }
            Class::Latest(_) => {
                let value = payload["value"].as_u64().expect("a value");
                let key = (event.target.clone(), payload["event_id"].as_u64().expect("an event"));
                if self.oracle.values(&key).last().is_some_and(|last| *last > value) {
                    self.totals.stale += 1;
                } else {
                    self.oracle.accepted_latest(key, value);
                    self.totals.latest += 1;
                }
            }
            Class::Ephemeral => {}
        }
    }

    // --- the end ---

    pub(super) fn come_to_rest(&mut self) {
        for shard in &mut self.shards {
            shard.stalled_until = 0;
        }
        for client in self.clients.iter_mut().filter(|client| client.is_alive()) {
            client.reading = true;
        }
        self.work_off();
        // Long enough for keep-alive to find the silent ones, and for the newest values of everybody else.
        self.pass(150);
        self.work_off();
    }

    pub(super) fn work_off(&mut self) {
        let rounds = (0..100_000).take_while(|_| self.round()).count();
        assert!(rounds < 100_000, "the gateway never comes to rest");
    }

    pub(super) fn check_complete(&mut self) {
        self.control.route.check_invariants();
        for client in self.clients.iter().filter(|client| client.is_open()) {
            let cells = &self.shards[client.conn.shard().index()].cells;
            let shown = cells.latest_unasked.get() + cells.latest_unsent.get() == 0;
            client.check_complete(&self.oracle, shown);
            self.totals.shown += usize::from(shown) as u64;
        }
        let open = self.clients.iter().filter(|client| client.is_alive()).count();
        let held: usize = self.shards.iter().map(|shard| shard.hub.len()).sum();
        assert_eq!(held, open, "hubs hold who is connected");
        let counted: u64 = self.shards.iter().map(|shard| shard.cells.connections.get()).sum();
        assert_eq!(counted as usize, open, "and count them");
        for room in ROOMS {
            let members = self
                .clients
                .iter()
                .filter(|client| client.is_open() && client.rooms.contains_key(room))
                .count();
            let known = self.control.route.directory().room(room).map_or(0, |held| held.total());
            assert_eq!(known as usize, members, "members of {room}");
            for shard in self.shards.iter().filter(|shard| shard.hub.room_members(room) > 0) {
                let total = shard.hub.room_total(room) as usize;
                assert_eq!(total, members, "members of {room} as {:?} knows", shard.id);
            }
        }
        self.check_presence();
    }

    /// Nobody is a ghost, and whoever was told everything knows who is there.
    fn check_presence(&mut self) {
        let room = "lobby:1";
        let here = self.clients.iter().filter(|client| client.is_in(room));
        let truth: HashSet<&str> = here.filter_map(|client| client.user.as_deref()).collect();
        let route = &self.control.route;
        assert!(!route.has_announcements());
        let known: Vec<&str> = route.present().map(|(_, user)| user).collect();
        assert_eq!((known.len(), known.into_iter().collect::<HashSet<_>>()), (truth.len(), truth.clone()));
        let mut told = 0;
        for client in self.clients.iter().filter(|client| client.is_in(room)) {
            if self.shards[client.conn.shard().index()].cells.dropped_ephemeral.get() > 0 {
                continue;
            }
            assert!(!client.told_twice, "{:?} was told the same twice", client.conn);
            for ((_, user), joined) in &client.told {
                // One's own doing is not told.
                let own = client.user.as_deref() == Some(user);
                assert!(own || *joined == truth.contains(&**user), "{user} {joined}, but {truth:?}");
                told += 1;
            }
        }
        self.totals.told += told;
    }

    pub(super) fn everybody_leaves(&mut self) {
        if self.rng.one_in(2) {
            self.clients.iter_mut().for_each(|client| client.draining = true);
            self.control.drain(Duration::from_secs(5));
        } else {
            for number in 0..self.clients.len() {
                if self.clients[number].is_open() {
                    let action = if self.rng.one_in(2) { Action::Close } else { Action::Vanish };
                    self.act_of(number, action);
                }
            }
        }
        self.work_off();
        self.pass(150);
        self.work_off();
    }

    pub(super) fn check_empty(&mut self) {
        let drained = self.clients.iter().any(|client| client.draining);
        assert!(!drained || self.control.all_drained(), "every shard says that it is empty");
        for shard in &self.shards {
            assert!(shard.hub.is_empty() && shard.sockets.is_empty() && shard.inbox.is_empty());
            assert!(!shard.hub.reports_pending() && shard.to_control.is_empty());
            let cells = &shard.cells;
            let left = [&cells.connections, &cells.connections_authenticated, &cells.users, &cells.rooms];
            assert_eq!(left.map(|cell| cell.get()), [0; 4]);
            self.totals.conflated += cells.conflated.get();
            self.totals.dropped_ephemeral += cells.dropped_ephemeral.get();
        }
        let route = &self.control.route;
        assert_eq!((route.directory().user_count(), route.directory().room_count()), (0, 0));
        assert_eq!(route.present().count(), 0, "nobody is present");
        let cell = |shard: &Shard| shard.cells.joins_unanswered.get();
        self.totals.joins_unanswered += self.shards.iter().map(cell).sum::<u64>();
        self.totals.rooms_full += route.counts().rooms_full;
        self.now = self.now.after(Duration::from_secs(25 * 3_600));
        self.control.tick(self.now, &self.lagging());
        let sequencer = self.control.route.sequencer();
        let store = &self.control.store;
        let left =
            [store.stream_count(), store.key_count(), sequencer.key_count(), sequencer.version_count()];
        assert_eq!(left, [0; 4], "streams, keys and versions are let go");
    }
}
