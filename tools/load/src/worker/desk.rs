//! What the connections of a worker share: who they are, what they say first, what they count.

use std::io;

use super::{line::Line, tally::Tally};
use crate::{
    clock, frame,
    order::Plan,
    tls::Connector,
    token::{self, Mint},
};

/// What the connections of a worker share.
pub(crate) struct Desk {
    pub(crate) plan: Plan,
    pub(crate) connector: Option<Connector>,
    mint: Option<Mint>,
    /// The whole frame that joins the room.
    pub(crate) join: Option<Vec<u8>>,
    pub(crate) tally: Tally,
    /// The queue that they are in, if they are in one.
    pub(crate) line: Option<Line>,
    /// When the bytes under way were read.
    pub(crate) now_ns: u64,
}

impl Desk {
    /// A desk for the connections of the plan.
    pub(crate) fn new(plan: Plan) -> io::Result<Self> {
        let join = plan.room.as_ref().map(|room| {
            let mut join = Vec::new();
            let text = format!(r#"{{"type":"room:join","payload":{{"room":"{room}"}}}}"#);
            frame::encode_client(frame::TEXT, text.as_bytes(), &mut join);
            join
        });
        Ok(Self {
            connector: plan.tls.then(|| Connector::new(&plan.host, plan.resume)).transpose()?,
            mint: plan.secret.as_deref().map(Mint::new),
            tally: Tally::new(plan.queue),
            line: None,
            now_ns: clock::mono_ns(),
            join,
            plan,
        })
    }

    /// The upgrade request of a connection, by its number among all.
    pub(super) fn request(&self, index: u32) -> io::Result<Vec<u8>> {
        let plan = &self.plan;
        let target = match &self.mint {
            Some(mint) => {
                format!("{}?token={}", plan.target, mint.token(&token::user(index % plan.users))?)
            }
            None if plan.floor => format!("{}?n={index}", plan.target),
            None => plan.target.clone(),
        };
        Ok(frame::request(&format!("{}:{}", plan.host, plan.server.port()), &target))
    }
}
