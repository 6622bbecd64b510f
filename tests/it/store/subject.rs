//! A store on a Redis of its own.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    time::timeout,
};
use usher::{
    store::{self, Answered, Bounds, Store, StoreParts},
    stream::store::{Answer, Ask},
};

use super::contract::Subject;
use crate::support::{PATIENCE, redis::Redis};

/// One instance's store.
pub struct Instance {
    pub store: Store,
    pub answers: mpsc::Receiver<Answered>,
    pub connection: watch::Sender<Option<MultiplexedConnection>>,
}

impl Instance {
    /// On the runtime, with a connection, and with all the time that a busy machine needs.
    pub fn open(runtime: &Runtime, redis: &Redis, seed: u64) -> Self {
        Self::with_timeout(runtime, redis, seed, PATIENCE)
    }

    pub fn with_timeout(runtime: &Runtime, redis: &Redis, seed: u64, command_timeout: Duration) -> Self {
        let connection = watch::Sender::new(Some(connect(runtime, redis)));
        let parts = StoreParts {
            connection: connection.subscribe(),
            cluster: false,
            prefix: "usher:".into(),
            bounds: bounds(),
            seed,
            command_timeout,
        };
        let (store, answers, lanes) = store::open(parts);
        runtime.spawn(lanes);
        Self { store, answers, connection }
    }

    pub async fn ask(&mut self, ask: Ask) -> Answer {
        self.store.ask(7, ask).expect("there is room");
        self.answer(7).await
    }

    /// The next answer, to that ticket.
    pub async fn answer(&mut self, ticket: u64) -> Answer {
        let answered = timeout(PATIENCE, self.answers.recv()).await.expect("an answer").expect("a store");
        assert_eq!(answered.ticket, ticket);
        answered.answer
    }
}

pub fn bounds() -> Bounds {
    Bounds {
        count_max: OnRedis::COUNT_MAX,
        bytes_max: OnRedis::BYTES_MAX,
        age_max: OnRedis::AGE_MAX,
        ledger_age_max: OnRedis::LEDGER_AGE_MAX,
        head_age_max: Duration::from_secs(24 * 3_600),
        key_age_max: Duration::from_secs(300),
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub fn connect(runtime: &Runtime, redis: &Redis) -> MultiplexedConnection {
    connect_with(runtime, redis, &patient())
}

/// Whoever asks has a time limit of his own.
pub fn patient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

/// With the protocol that the bus speaks.
pub fn connect_with(
    runtime: &Runtime,
    redis: &Redis,
    config: &AsyncConnectionConfig,
) -> MultiplexedConnection {
    let client = Client::open(format!("{}/?protocol=resp3", redis.url())).expect("a URL");
    let connection = client.get_multiplexed_async_connection_with_config(config);
    runtime.block_on(connection).expect("a Redis that answers")
}

/// A store and its Redis.
pub struct OnRedis {
    pub runtime: Runtime,
    pub redis: Redis,
    pub instance: Instance,
}

impl OnRedis {
    pub fn new() -> Self {
        Self::on(Redis::start())
    }

    pub fn on(redis: Redis) -> Self {
        let runtime = runtime();
        let instance = Instance::open(&runtime, &redis, 1);
        Self { runtime, redis, instance }
    }

    /// Another instance in the place of this one, whose commands may take so long.
    pub fn replace(&mut self, command_timeout: Duration) {
        self.instance = Instance::with_timeout(&self.runtime, &self.redis, 2, command_timeout);
    }

    /// After Redis started again.
    pub fn reconnect(&self) {
        self.instance.connection.send_replace(Some(connect(&self.runtime, &self.redis)));
    }
}

impl Subject for OnRedis {
    fn ask(&mut self, ask: Ask) -> Answer {
        self.runtime.block_on(self.instance.ask(ask))
    }

    fn pass(&mut self, time: Duration) {
        self.redis.cli(&["EVAL", OLDER, "0", &time.as_millis().to_string()]);
    }

    fn keep(&mut self) {
        assert_eq!(self.redis.cli(&["SAVE"]), "OK");
    }

    fn restart(&mut self) {
        self.redis.kill();
        self.redis.restart();
        self.reconnect();
    }
}

/// What a command may take where Redis is silent for longer.
pub const SHORT: Duration = Duration::from_millis(250);

/// Makes all that is in Redis older, as if time had passed: what was to expire does so sooner, or at once, and the times
/// that are written in streams are earlier.
const OLDER: &str = r"
local time = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  local kind = redis.call('TYPE', key).ok
  if left < 0 then
    return redis.error_reply(key .. ' would stay for ever')
  elseif left <= time then
    redis.call('DEL', key)
  else
    if kind == 'hash' then
      redis.call('HINCRBY', key, 'oldest', -time)
    elseif kind == 'stream' then
      local entries = redis.call('XRANGE', key, '-', '+')
      redis.call('DEL', key)
      for _, entry in ipairs(entries) do
        local earlier = string.format('%.0f', tonumber(entry[2][2]) - time)
        redis.call('XADD', key, entry[1], 't', earlier, 'e', entry[2][4])
      end
    end
    redis.call('PEXPIRE', key, left - time)
  end
end
return redis.status_reply('OK')";
