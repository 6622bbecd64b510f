//! What instances say of themselves: whom they have, and in which rooms.
//!
//! Owns what is done with a word that was heard, and when one is said. Never decides who comes in, nor who is announced:
//! see `entries` and `presence`. Says nothing where the others cannot be reached: they ask when they can be again.

use std::sync::Arc;

use super::{Output, Route, elsewhere::Due, following::Following, turn::Turn};
use crate::{
    event::{Address, Denial, Event, Target},
    ids::ConnId,
    limits::{ANNOUNCED_ROOM_MEMBERS_MAX, TOO_MANY_CONNECTIONS_RETRY},
    stream::word::{InstanceId, Word},
    wire::room::glob_matches,
};

impl Route {
    /// Connections that other instances' counts came too late for, and that there was no room to look at again.
    pub fn overlooked(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| following.unproven.overlooked())
    }

    /// Other instances that are heard of.
    pub fn instances(&self) -> usize {
        self.following.as_ref().map_or(0, |following| following.elsewhere.instances())
    }

    /// Words of other instances that were not listened to, too many having been heard of.
    pub fn unheard(&self) -> u64 {
        self.following.as_ref().map_or(0, |following| following.elsewhere.unheard())
    }

    /// Who they are; `None`: the others cannot be reached.
    pub fn others(&self) -> Option<Vec<InstanceId>> {
        let Following { elsewhere, up, .. } = self.following.as_ref()?;
        up.then(|| elsewhere.names().collect())
    }

    /// Connections or members that other instances told of.
    pub(super) fn elsewhere(&self, address: &Address) -> u32 {
        self.following.as_ref().map_or(0, |following| following.elsewhere.count(address))
    }

    /// Members of a room on all instances.
    pub(super) fn members_of(&self, room: &Arc<str>) -> u32 {
        let address = Address::Room(room.clone());
        self.directory.count(&address).saturating_add(self.elsewhere(&address))
    }

    /// Another instance said something.
    pub(super) fn word(&mut self, turn: &mut Turn<'_>, from: InstanceId, word: Word) {
        let Some(Following { elsewhere, census, .. }) = &mut self.following else { return };
        if !elsewhere.alive(turn.now, from) {
            return;
        }
        match word {
            Word::Alive => {}
            Word::Leaving => self.instance_gone(turn, from),
            Word::Count { address, count, asks } => {
                if !self.directory.holds(&address) && !census.asks(&address) {
                    return;
                }
                if asks {
                    elsewhere.tell(&address, Due { asks: false, whole: true });
                }
                let changed = elsewhere.told(turn.now, from, address.clone(), count);
                match &address {
                    Address::Room(room) => {
                        if changed {
                            self.directory.changed_elsewhere(room);
                        }
                        if count == 0 {
                            self.presence.forget_instance_in(turn.now, from, room);
                        }
                    }
                    // Who asks has a connection that is newer.
                    Address::User(user) if changed && !asks => self.hold_to_limit(turn, user),
                    Address::User(_) => {}
                }
            }
            Word::Present { room, user, present } => {
                if self.directory.room(&room).is_some() {
                    self.presence.hear(turn.now, from, &room, &user, present);
                }
            }
            Word::Members { room, users } => {
                if self.directory.room(&room).is_some() {
                    self.presence.hear_all(turn.now, from, &room, &users);
                }
            }
        }
    }

    /// Ends connections that would not have been let in, had this been known; the newest first.
    fn hold_to_limit(&mut self, turn: &mut Turn<'_>, user: &Arc<str>) {
        let address = Address::User(user.clone());
        let total = self.directory.count(&address).saturating_add(self.elsewhere(&address));
        let passed_by = total.saturating_sub(self.connections_per_user_max);
        let Some(Following { unproven, .. }) = &mut self.following else { return };
        let retry_after_ms = TOO_MANY_CONNECTIONS_RETRY.as_millis() as u32;
        for conn in (0..passed_by).map_while(|_| unproven.take(user)) {
            self.counts.denied += 1;
            turn.out.push(Output::Denied { conn, denial: Denial::LimitPassed, retry_after_ms });
        }
    }

    fn instance_gone(&mut self, turn: &mut Turn<'_>, from: InstanceId) {
        let Some(Following { elsewhere, .. }) = &mut self.following else { return };
        let dropped = elsewhere.forget_instance(from);
        self.counts_dropped(turn, dropped);
        self.presence.forget_instance(turn.now, from);
    }

    fn counts_dropped(&mut self, turn: &Turn<'_>, dropped: Vec<(InstanceId, Address)>) {
        for (from, address) in dropped {
            if let Address::Room(room) = &address {
                self.directory.changed_elsewhere(room);
                self.presence.forget_instance_in(turn.now, from, room);
            }
        }
    }

    /// What is shared about the address is heard from now on: the others are asked whom they have.
    pub(super) fn listens(&mut self, address: &Address) {
        if let Some(Following { elsewhere, .. }) = &mut self.following
            && self.directory.holds(address)
        {
            elsewhere.tell(address, Due { asks: true, whole: true });
        }
    }

    /// A shard tells whether it has a user in a room under `ROOM_PRESENCE`.
    pub(super) fn user_present(
        &mut self,
        turn: &mut Turn<'_>,
        room: Arc<str>,
        user: Arc<str>,
        present: bool,
        conn: ConnId,
    ) {
        let changed = self.presence.set(turn.now, &room, &user, present, conn);
        if !present && self.directory.room(&room).is_none() {
            self.presence.forget_room(&room);
        }
        if changed && self.following.as_ref().is_some_and(|following| following.up) {
            turn.out.push(Output::Tell { word: Word::Present { room, user, present } });
        }
    }

    /// A backend tells of a user's presence: every room under `ROOM_PRESENCE` hears it that the user is in.
    pub(super) fn foreign_presence(&mut self, turn: &mut Turn<'_>, event: &Event) {
        let Target::User(user) = &event.target else { return };
        for room in self.presence.rooms_of(user) {
            if self.members_of(&room) as usize <= ANNOUNCED_ROOM_MEMBERS_MAX {
                self.heard_unstored(turn, Event { target: Target::Room(room), ..event.clone() }, false);
            }
        }
    }

    /// A tenth of a second passed.
    pub(super) fn beat(&mut self, turn: &mut Turn<'_>) {
        self.end_censuses(turn);
        let Self { presence, directory, following, .. } = self;
        presence.clock(turn.now, |user| {
            let elsewhere =
                following.as_ref().map_or(0, |all| all.elsewhere.count(&Address::User(user.clone())));
            directory.user(user).is_some() || elsewhere > 0
        });
        let Some(Following { elsewhere, up: true, .. }) = following else { return };
        let beat = elsewhere.clock(turn.now);
        let dropped = if beat.round {
            elsewhere.begin_round(turn.now, beat.asks, directory.addresses())
        } else {
            Vec::new()
        };
        if beat.alive {
            turn.out.push(Output::Tell { word: Word::Alive });
        }
        self.counts_dropped(turn, dropped);
        beat.gone.into_iter().for_each(|instance| self.instance_gone(turn, instance));
    }

    /// Tells the others what they are to know, as much as may be told now.
    pub(super) fn tell_due(&mut self, turn: &mut Turn<'_>) {
        let Some(Following { elsewhere, up: true, .. }) = &mut self.following else { return };
        // Of a room that has nobody left it must be said too: else who missed the last one's leaving waits for ever.
        let has_presence = |room: &str| self.rooms_presence.iter().any(|glob| glob_matches(glob, room));
        while let Some((address, due)) = elsewhere.next_due() {
            let count = self.directory.count(&address);
            let members = match &address {
                Address::Room(room) if due.whole && has_presence(room) => {
                    self.presence.here(room).map(|users| Word::Members { room: room.clone(), users })
                }
                _ => None,
            };
            turn.out.push(Output::Tell { word: Word::Count { address, count, asks: due.asks } });
            if let Some(word) = members {
                turn.out.push(Output::Tell { word });
            }
        }
    }
}
