//! The instances as a load balancer knows them.

use std::{cell::RefCell, net::SocketAddr};

/// Where one instance serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ws: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Those in service, by place; `None`: nobody is sent there at the moment.
#[derive(Debug)]
pub(crate) struct Fleet {
    places: RefCell<Vec<Option<Addresses>>>,
}

impl Fleet {
    /// So many places, all empty.
    pub(crate) fn new(places: usize) -> Self {
        Self { places: RefCell::new(vec![None; places]) }
    }

    /// Sends people to this instance, or to nobody in this place.
    pub(crate) fn put(&self, place: usize, addresses: Option<Addresses>) {
        self.places.borrow_mut()[place] = addresses;
    }

    /// One of those in service, by a number.
    pub(crate) fn pick(&self, number: u32) -> Option<Addresses> {
        let places = self.places.borrow();
        let serving: Vec<_> = places.iter().flatten().collect();
        let index = number as usize % serving.len().max(1);
        serving.get(index).map(|addresses| **addresses)
    }
}
