//! What operators ask: what is stored for whom, how far it got, and who is there.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Call, Gateway, PublishError, check_target, check_user};
use crate::{
    event::{Address, Refusal, Target},
    limits::{EPOCH_BYTES_MAX, HISTORY_ENTRIES_MAX, OFFSET_MAX},
    route::{Connections, Inquiry, NoReport, Report, Start, classify},
    stream::names,
};

/// Which entries of a stream somebody wants to see.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// A user, or a room that is kept.
    pub target: Target,
    /// Entries behind this offset. `None`: the newest ones.
    pub after: Option<u64>,
    /// The history that `after` belongs to; empty: the running one.
    pub epoch: String,
    /// Entries at most, up to 64; 0: as many as that.
    pub count_max: usize,
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// As for any other call.
    #[error(transparent)]
    Call(#[from] PublishError),
    /// Redis cannot be reached, or is too slow.
    #[error("the stream store does not answer")]
    StoreAway,
}

impl From<Refusal> for InquiryError {
    fn from(refusal: Refusal) -> Self {
        Self::Call(refusal.into())
    }
}

impl Gateway {
    /// What is stored for a user or a room, and the name of the stream.
    ///
    /// # Errors
    /// A field that does not fit, the gateway's refusal, or a store that is away.
    pub async fn history(&self, query: HistoryQuery) -> Result<(Arc<str>, Report), InquiryError> {
        let HistoryQuery { target, after, epoch, count_max } = query;
        check_target(&target)?;
        if after.is_some_and(|after| after > OFFSET_MAX) {
            return Err(PublishError::invalid("after_offset", format!("must be at most {OFFSET_MAX}")).into());
        }
        if epoch.len() > EPOCH_BYTES_MAX {
            return Err(
                PublishError::invalid("epoch", format!("must be at most {EPOCH_BYTES_MAX} bytes")).into()
            );
        }
        if count_max > HISTORY_ENTRIES_MAX {
            return Err(
                PublishError::invalid("limit", format!("must be at most {HISTORY_ENTRIES_MAX}")).into()
            );
        }
        let count_max = if count_max == 0 { HISTORY_ENTRIES_MAX } else { count_max };
        let start = after.map_or(Start::Newest, Start::After);
        self.inquire(target, epoch.into(), start, count_max).await
    }

    /// What a user's clients were given and acknowledged, and the name of the stream. The only event of the report is the
    /// oldest that is not acknowledged.
    ///
    /// # Errors
    /// As [`Gateway::history`].
    pub async fn delivery_state(&self, user: &str) -> Result<(Arc<str>, Report), InquiryError> {
        check_user(user)?;
        self.inquire(Target::User(user.into()), "".into(), Start::Unacknowledged, 1).await
    }

    /// How many connections a user has, or members a room, here and on other instances. Where there are none here, the
    /// others are asked, which takes about a third of a second; while they cannot be reached, they have none.
    ///
    /// # Errors
    /// A target that does not fit, or the gateway's refusal.
    pub async fn presence(&self, target: Target) -> Result<Connections, InquiryError> {
        check_target(&target)?;
        let address = match classify::resolve(target) {
            Target::User(user) => Address::User(user),
            Target::Room(room) => Address::Room(room),
            Target::Connection(_) | Target::Everyone => return Err(no_target().into()),
        };
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Presence { address, reply })?;
        answer.await.map_err(|_| Refusal::Draining)?.map_err(no_report)
    }

    async fn inquire(
        &self,
        target: Target,
        epoch: Arc<str>,
        start: Start,
        count_max: usize,
    ) -> Result<(Arc<str>, Report), InquiryError> {
        let stream = match classify::resolve(target) {
            target @ (Target::User(_) | Target::Room(_)) => names::stream_of(&target),
            Target::Connection(_) | Target::Everyone => None,
        };
        let stream = stream.ok_or_else(no_target)?;
        let inquiry = Inquiry { stream: stream.clone(), epoch, start, count_max };
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Inquire { inquiry, reply })?;
        let report = answer.await.map_err(|_| Refusal::Draining)?.map_err(no_report)?;
        Ok((stream, report))
    }
}

fn no_report(why: NoReport) -> InquiryError {
    match why {
        NoReport::NotKept => {
            PublishError::invalid("room", "must be one that the gateway keeps (ROOM_STREAMS)").into()
        }
        NoReport::Overloaded { retry_after_ms } => Refusal::Overloaded { retry_after_ms }.into(),
        NoReport::StoreAway => InquiryError::StoreAway,
    }
}

fn no_target() -> PublishError {
    PublishError::invalid("target", "must be a user or a room")
}
