//! gRPC connections of one caller, by instance.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc};

use tonic::transport::{Channel, Endpoint};
use usher::generated::realtime::realtime_service_client::RealtimeServiceClient;

use crate::fleet::Fleet;

/// Opens a connection to each instance when it is first called.
#[derive(Clone)]
pub(crate) struct Callers {
    fleet: Rc<Fleet>,
    open: Rc<RefCell<HashMap<SocketAddr, RealtimeServiceClient<Channel>>>>,
}

impl Callers {
    pub(crate) fn new(fleet: Rc<Fleet>) -> Self {
        Self { fleet, open: Rc::default() }
    }

    /// One of those in service, by a number.
    pub(crate) fn of(&self, number: u32) -> Option<RealtimeServiceClient<Channel>> {
        let grpc = self.fleet.pick(number)?.grpc;
        let mut open = self.open.borrow_mut();
        if let Some(client) = open.get(&grpc) {
            return Some(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).ok()?;
        let client = RealtimeServiceClient::new(endpoint.connect_lazy());
        open.insert(grpc, client.clone());
        Some(client)
    }
}
