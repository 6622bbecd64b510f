//! The end of a run: nothing goes wrong any more, everything arrives, and everybody has what it is entitled to.

use std::sync::Arc;

use usher::{event::Position, ids::ConnId, route::Input};

use super::Cluster;
use crate::reader::Conn;

impl Cluster {
    pub(super) fn come_to_rest(&mut self) {
        self.quiet = true;
        for at in 0..self.instances.len() {
            if self.instances[at].lost {
                self.set_up(at, false);
            }
            self.set_up(at, true);
        }
        self.rest();
        // The store did not answer for so long that the router gave them up.
        for at in 0..self.instances.len() {
            let replay = |(id, conn): (&ConnId, &Conn)| Some((*id, conn.user, conn.replay.clone()?));
            let unanswered: Vec<_> = self.instances[at].conns.iter().filter_map(replay).collect();
            for (conn, user, (epoch, offset)) in unanswered {
                let position = Position { stream: format!("user:{user}").into(), epoch, offset };
                self.tell(at, Input::ReplayMore { conn, position });
            }
        }
        self.rest();
    }

    /// Everything that is under way arrives, and nothing fails.
    fn rest(&mut self) {
        for _ in 0..80 {
            for at in 0..self.instances.len() {
                self.pass(at);
                while self.subscribe(at)
                    | self.hear(at)
                    | self.ask(at)
                    | self.answer(at)
                    | self.hear_shard(at)
                    | self.read(at)
                {}
            }
            self.act_as_buyers();
        }
    }

    pub(super) fn check(&mut self) {
        self.check_buyers();
        for (at, instance) in self.instances.iter().enumerate() {
            assert_eq!(instance.route.asked(), (0, 0), "every question was answered");
            let counts = instance.route.counts();
            self.seen.filled += counts.filled;
            self.seen.heard += counts.heard;
            for (id, conn) in &instance.conns {
                assert!(conn.admitted && conn.replay.is_none(), "{id:?} was answered");
                let (epoch, after) = conn.mark.clone().expect("it was told where the stream stands");
                let lost: Vec<_> = conn.due.intersection(&self.answered).collect();
                assert!(lost.is_empty(), "{} at {id:?} of {at} was not told of {lost:?}", conn.user);
                let stream: Arc<str> = format!("user:{}", conn.user).into();
                let page = self.stored.page(self.now, &stream, (&epoch, after));
                assert_eq!(page.events, Some(Vec::new()), "{} at {id:?} of {at} has everything", conn.user);
                assert_eq!(page.head.offset, after);
            }
        }
    }
}
