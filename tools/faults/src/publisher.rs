//! Backends: Critical calls at a steady rate, each repeated with its key until it is answered OK.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use usher::generated::realtime::{NotifyResponse, SendToUserRequest, send_to_user_request};

use crate::{callers::Callers, fleet::Fleet, random::Random};

/// Calls under way at once; more wait for their turn.
const CALLS_MAX: usize = 4_096;
/// How long a call may wait for its answer.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two tries of a call.
const RETRY: Duration = Duration::from_millis(250);

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Answered OK.
    pub(crate) accepted: Vec<Accepted>,
    /// Tries that were not answered OK.
    pub(crate) refused: u64,
    /// By what they were answered.
    pub(crate) refusals: HashMap<String, u64>,
    /// An answer that contradicts the contract.
    pub(crate) faults: Vec<String>,
}

/// A call that was answered OK.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// Its number, which its payload carries.
    pub(crate) number: u64,
    pub(crate) user: u32,
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

/// The name of a user.
pub(crate) fn user(index: u32) -> String {
    format!("buyer-{index}")
}

/// Calls at the rate for so many seconds, to users by chance; returns when all were answered OK, or after another minute.
pub(crate) async fn run(fleet: Rc<Fleet>, calls: Rc<RefCell<Calls>>, plan: Plan) {
    let callers = Callers::new(fleet);
    let mut random = Random::new(plan.seed);
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    for number in 0..u64::from(plan.rate) * u64::from(plan.seconds) {
        ticks.tick().await;
        while under_way.len() >= CALLS_MAX {
            under_way.join_next().await;
        }
        let user = random.below(plan.users);
        under_way.spawn_local(call(callers.clone(), Rc::clone(&calls), number, user));
        while under_way.try_join_next().is_some() {}
    }
    let all = async { while under_way.join_next().await.is_some() {} };
    if timeout(Duration::from_secs(60), all).await.is_err() {
        calls.borrow_mut().faults.push(format!("{} calls were never answered OK", under_way.len()));
    }
}

/// What a publisher does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    pub(crate) users: u32,
    pub(crate) seed: u64,
}

/// One call until it is answered OK.
async fn call(callers: Callers, calls: Rc<RefCell<Calls>>, number: u64, user: u32) {
    let mut random = Random::new(number);
    loop {
        let refusal = match attempt(&callers, number, user, random.below(u32::MAX)).await {
            Ok(answer) if answer.offset == 0 => {
                calls.borrow_mut().faults.push(format!("call {number}: OK without an offset"));
                return;
            }
            Ok(NotifyResponse { epoch, offset, .. }) => {
                calls.borrow_mut().accepted.push(Accepted { number, user, epoch, offset });
                return;
            }
            Err(refusal) => refusal,
        };
        {
            let mut calls = calls.borrow_mut();
            calls.refused += 1;
            *calls.refusals.entry(refusal).or_default() += 1;
        }
        sleep(RETRY).await;
    }
}

async fn attempt(callers: &Callers, number: u64, user: u32, chance: u32) -> Result<NotifyResponse, String> {
    let mut client = callers.of(chance).ok_or("nobody in service")?;
    let payload = json!({"number": number}).to_string().into_bytes();
    let request = SendToUserRequest {
        user_id: self::user(user),
        event_type: "booking:confirmed".into(),
        body: Some(send_to_user_request::Body::PayloadJson(payload)),
        idempotency_key: format!("call-{number}"),
        ..Default::default()
    };
    let answer = timeout(CALL_TIME_MAX, client.send_to_user(request)).await;
    let answer = answer.map_err(|_| "no answer in time")?;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{:?}", status.code()))
}
