//! Operators' questions: to the router, and its answers back.

use tokio::sync::oneshot;

use super::{Desk, ReplyTo, give};
use crate::{
    clock::Now,
    event::Address,
    route::{Connections, Input, Inquiry, NoReport, Report, Token},
};

impl Desk {
    pub(super) fn count(
        &mut self,
        now: Now,
        address: Address,
        reply: oneshot::Sender<Result<Connections, NoReport>>,
    ) {
        let token = self.token(Some(ReplyTo::Counter(reply)));
        self.route_input(now, Input::Count { token, address });
    }

    pub(super) fn counted(&mut self, token: Token, result: Result<Connections, NoReport>) {
        if let Some(ReplyTo::Counter(reply)) = self.waiting.remove(&token) {
            give(reply, result);
        }
    }

    pub(super) fn inquire(
        &mut self,
        now: Now,
        inquiry: Inquiry,
        reply: oneshot::Sender<Result<Report, NoReport>>,
    ) {
        let token = self.token(Some(ReplyTo::Inquirer(reply)));
        self.route_input(now, Input::Inquire { token, inquiry });
    }

    pub(super) fn inquired(&mut self, token: Token, result: Result<Report, NoReport>) {
        if let Some(ReplyTo::Inquirer(reply)) = self.waiting.remove(&token) {
            give(reply, result);
        }
    }
}
