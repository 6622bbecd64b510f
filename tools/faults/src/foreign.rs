//! Backends that know Redis alone: Critical messages by `PUBLISH`, each said once and never again.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    publisher::{Plan, user},
    random::Random,
};

/// The channel, which is the type too.
pub(crate) const CHANNEL: &str = "payment:published";
/// How long Redis may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(20);

/// What became of the messages.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Redis passed them on, to one instance at least: number and user.
    pub(crate) heard: Vec<(u64, u32)>,
    /// Redis took them while no instance was subscribed: lost, by the nature of Pub/Sub.
    pub(crate) unheard: u64,
    /// Redis broke off: nobody knows whether it took them.
    pub(crate) unknown: u64,
}

/// Publishes at the rate for so many seconds, to users by chance; pauses while there is no Redis.
pub(crate) async fn run(redis: SocketAddr, published: Rc<RefCell<Published>>, plan: Plan) {
    let mut random = Random::new(plan.seed ^ 1);
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 0;
    let everything = async {
        loop {
            let Ok(stream) = TcpStream::connect(redis).await else {
                sleep(RETRY).await;
                continue;
            };
            let mut connection = BufReader::new(stream);
            loop {
                ticks.tick().await;
                number += 1;
                let to = random.below(plan.users);
                match timeout(ANSWER_TIME_MAX, publish(&mut connection, number, to)).await {
                    Ok(Ok(Some(0))) => published.borrow_mut().unheard += 1,
                    Ok(Ok(Some(_))) => published.borrow_mut().heard.push((number, to)),
                    // Redis says no: it is loading its data.
                    Ok(Ok(None)) => {}
                    Ok(Err(_)) | Err(_) => {
                        published.borrow_mut().unknown += 1;
                        break;
                    }
                }
            }
        }
    };
    // For so long, whatever happens.
    timeout(Duration::from_secs(plan.seconds.into()), everything).await.ok();
}

/// How many subscriptions got it; `None`: Redis refused.
async fn publish(connection: &mut BufReader<TcpStream>, number: u64, to: u32) -> io::Result<Option<u64>> {
    let payload = json!({"userId": user(to), "number": number}).to_string();
    let words = ["PUBLISH", CHANNEL, &payload];
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    connection.get_mut().write_all(format!("*3\r\n{words}").as_bytes()).await?;
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().strip_prefix(':').and_then(|count| count.parse().ok()))
}
