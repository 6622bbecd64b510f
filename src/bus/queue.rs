//! A queue between two tasks, bounded in messages and in bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::mpsc;

/// What has a size beside its slot in a queue.
pub(super) trait Weighed {
    /// Bytes that it holds on the heap and that somebody else decides about.
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
pub(super) struct Sender<T> {
    to: mpsc::Sender<T>,
    /// Bytes of what waits. Both ends change it: relaxed, since it guards no other memory.
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone(), bytes: self.bytes.clone(), bytes_max: self.bytes_max }
    }
}

#[derive(Debug)]
pub(super) struct Receiver<T> {
    from: mpsc::Receiver<T>,
    bytes: Arc<AtomicUsize>,
}

/// A queue of so many messages and about so many bytes; one message always fits an empty queue.
pub(super) fn bounded<T: Weighed>(messages_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let (to, from) = mpsc::channel(messages_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Sender { to, bytes: bytes.clone(), bytes_max }, Receiver { from, bytes })
}

impl<T: Weighed> Sender<T> {
    /// Sends, or gives it back where there is no room, or nobody.
    pub(super) fn try_send(&self, item: T) -> Result<(), T> {
        if self.bytes.load(Ordering::Relaxed) >= self.bytes_max {
            return Err(item);
        }
        match self.to.try_reserve() {
            Ok(permit) => {
                self.bytes.fetch_add(item.bytes(), Ordering::Relaxed);
                permit.send(item);
                Ok(())
            }
            Err(_) => Err(item),
        }
    }

    /// Sends what must not be lost, as soon as there is a slot; `false`: nobody is there any more.
    pub(super) async fn send(&self, item: T) -> bool {
        let bytes = item.bytes();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.to.send(item).await.is_ok()
    }

    /// Whether nobody is there any more.
    pub(super) fn is_over(&self) -> bool {
        self.to.is_closed()
    }

    /// Messages that fit now; none once the bytes are used up.
    pub(super) fn free(&self) -> usize {
        if self.bytes.load(Ordering::Relaxed) >= self.bytes_max { 0 } else { self.to.capacity() }
    }
}

impl<T: Weighed> Receiver<T> {
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.from.poll_recv(cx).map(|item| item.inspect(|item| self.taken(item)))
    }

    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.from.try_recv().ok().inspect(|item| self.taken(item))
    }

    /// Whether nobody sends any more, and all was taken.
    pub(super) fn is_over(&self) -> bool {
        self.from.is_closed() && self.from.is_empty()
    }

    /// Waits for one, and takes what else is there, so many at most; `false`: nobody sends any more.
    pub(super) async fn recv_many(&mut self, batch: &mut Vec<T>, max: usize) -> bool {
        let count = self.from.recv_many(batch, max).await;
        batch.iter().rev().take(count).for_each(|item| self.taken(item));
        count > 0
    }

    fn taken(&self, item: &T) {
        self.bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighed for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    #[tokio::test]
    async fn it_is_full_by_messages_and_by_bytes_and_has_room_again() {
        let (to, mut from) = bounded(2, 10);
        assert_eq!((to.try_send(12), to.try_send(1), to.free()), (Ok(()), Err(1), 0));
        assert_eq!((from.try_recv(), to.free()), (Some(12), 2));
        assert_eq!((to.try_send(1), to.try_send(2), to.try_send(3)), (Ok(()), Ok(()), Err(3)));
        let mut batch = Vec::new();
        assert!(from.recv_many(&mut batch, 8).await);
        assert_eq!((batch, to.free(), from.try_recv()), (vec![1, 2], 2, None));
        assert!(to.send(50).await);
        assert_eq!(to.free(), 0);
    }

    #[tokio::test]
    async fn nobody_at_the_other_end_is_noticed() {
        let (to, from) = bounded(2, 10);
        drop(from);
        assert_eq!(to.try_send(1), Err(1));
        assert!(!to.send(1).await);
        let (to, mut from) = bounded(2, 10);
        assert_eq!(to.try_send(1), Ok(()));
        drop(to);
        assert!(!from.is_over(), "something is left");
        assert_eq!((from.try_recv(), from.is_over()), (Some(1), true));
    }
}
