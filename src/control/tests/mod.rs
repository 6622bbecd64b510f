//! The control core as a whole, against shards that are a pair of mailboxes.

mod callers;
mod methods;
mod pages;
mod shards;
mod stop;

use std::{net::SocketAddr, sync::atomic::AtomicBool};

use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::{
    config::settings::PassAlgorithm,
    event::{Address, Event},
    generated::realtime::realtime_service_client::RealtimeServiceClient,
    ids::{ConnId, ShardId},
    mesh::{Mailbox, Receiver, Sender, ToControl, ToShard},
};

/// Keys of passes for one test.
pub(super) fn pass_keys() -> Arc<SigningKeys> {
    Arc::new(SigningKeys::of_pkcs8(&passes::make(PassAlgorithm::EdDsa).unwrap(), "").unwrap())
}

/// A running control core and everything around it.
struct World {
    gateway: Gateway,
    status: Arc<Status>,
    shards: Vec<FakeShard>,
    grpc: SocketAddr,
    admin: SocketAddr,
    health: SocketAddr,
    running: JoinHandle<Result<(), ControlError>>,
}

/// Beyond this a test would wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// The far ends of one shard's mailboxes.
struct FakeShard {
    inbox: Receiver<ToShard>,
    to_control: Sender<ToControl>,
    lagging: Arc<AtomicBool>,
}

impl FakeShard {
    fn new(capacity: usize) -> (Self, ShardLink) {
        let (to, inbox) = Mailbox::bounded(capacity);
        let (to_control, from) = Mailbox::bounded(capacity.max(64));
        let lagging = Arc::new(AtomicBool::new(false));
        (Self { inbox, to_control, lagging: lagging.clone() }, ShardLink { to, from, lagging })
    }

    /// Says something to control.
    fn say(&self, message: ToControl) {
        self.to_control.try_send(message).unwrap();
    }

    fn joined(&self, room: &str, count: u32) {
        self.say(ToControl::Members { address: Address::Room(room.into()), count });
    }

    /// A user connects; answers come.
    fn admit(&self, shard: u16, user: &str) -> ConnId {
        let conn = ConnId::new(ShardId(shard), 0, 7);
        self.say(ToControl::Admit { conn, user: user.into(), user_connections: 1 });
        conn
    }

    /// Waits for the next message.
    async fn next(&mut self) -> ToShard {
        timeout(PATIENCE, self.inbox.ready()).await.expect("control sends something");
        self.inbox.try_recv().unwrap()
    }

    /// Waits for the next delivery, whatever comes before it.
    async fn delivered(&mut self) -> Arc<Event> {
        loop {
            if let ToShard::Deliver(event) = self.next().await {
                return event;
            }
        }
    }

    fn is_silent(&mut self) -> bool {
        self.inbox.is_empty()
    }
}

impl World {
    /// Two shards that accept, with settings of the test's own.
    fn start(adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::with_mailboxes(64, adjust)
    }

    fn with_mailboxes(capacity: usize, adjust: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        adjust(&mut settings);
        let status = Arc::new(Status::new(2, Now::read()));
        let (shards, links) = [(); 2].map(|()| FakeShard::new(capacity)).into_iter().unzip();
        let (gateway, calls) = Gateway::channel();
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [grpc, admin, health] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let [grpc_listener, admin_listener, health_listener] = listeners;
        let parts = ControlParts {
            settings: Arc::new(settings),
            status: status.clone(),
            shards: links,
            gateway: gateway.clone(),
            calls,
            grpc: grpc_listener,
            admin: Some(admin_listener),
            health: Some(health_listener),
            unknown_key: Arc::default(),
            place: None,
            seed: 7,
            pass_keys: pass_keys(),
            bus: None,
        };
        status.shard_accepts();
        status.shard_accepts();
        Self { gateway, status, shards, grpc, admin, health, running: tokio::spawn(run(parts)) }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> RealtimeServiceClient<Channel> {
        RealtimeServiceClient::new(self.channel().await)
    }
}
