//! A queue between two tasks, bounded in messages and in bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Notify, mpsc};

/// What has a size beside its slot in a queue.
pub(super) trait Weighed {
    /// Bytes that it holds on the heap and that somebody else decides about.
    fn bytes(&self) -> usize;
}

#[derive(Debug)]
pub(super) struct Sender<T> {
    to: mpsc::Sender<T>,
    level: Arc<Level>,
    bytes_max: usize,
}

/// What both ends know.
#[derive(Debug, Default)]
struct Level {
    /// Of what waits. Both ends change it: relaxed, since it guards no other memory.
    bytes: AtomicUsize,
    /// Something was taken.
    falls: Notify,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { to: self.to.clone(), level: self.level.clone(), bytes_max: self.bytes_max }
    }
}

#[derive(Debug)]
pub(super) struct Receiver<T> {
    from: mpsc::Receiver<T>,
    level: Arc<Level>,
}

/// A queue of so many messages and about so many bytes; one message always fits an empty queue.
pub(super) fn bounded<T: Weighed>(messages_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let (to, from) = mpsc::channel(messages_max);
    let level = Arc::<Level>::default();
    (Sender { to, level: level.clone(), bytes_max }, Receiver { from, level })
}

impl<T: Weighed> Sender<T> {
    /// Sends, or gives it back where there is no room, or nobody.
    pub(super) fn try_send(&self, item: T) -> Result<(), T> {
        if self.level.bytes.load(Ordering::Relaxed) >= self.bytes_max {
            return Err(item);
        }
        match self.to.try_reserve() {
            Ok(permit) => {
                self.level.bytes.fetch_add(item.bytes(), Ordering::Relaxed);
                permit.send(item);
                Ok(())
            }
            Err(_) => Err(item),
        }
    }

    /// Sends what must not be lost, as soon as there is a slot; `false`: nobody is there any more.
    pub(super) async fn send(&self, item: T) -> bool {
        let bytes = item.bytes();
        self.level.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.to.send(item).await.is_ok()
    }

    /// Whether nobody is there any more.
    pub(super) fn is_over(&self) -> bool {
        self.to.is_closed()
    }

    /// Messages that fit now; none once the bytes are used up.
    pub(super) fn free(&self) -> usize {
        if self.level.bytes.load(Ordering::Relaxed) >= self.bytes_max { 0 } else { self.to.capacity() }
    }

    /// Returns when so many messages fit. It keeps no room: whoever sends meanwhile may use it up. For one who waits at a
    /// time; `messages` at most what the queue was made for.
    pub(super) async fn has_room(&self, messages: usize) {
        while self.free() < messages {
            self.level.falls.notified().await;
        }
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
        self.level.bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
        self.level.falls.notify_one();
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
    async fn who_waits_for_room_goes_on_when_there_is_enough() {
        let (to, mut from) = bounded(4, 10);
        (1..=4).for_each(|n| to.try_send(n).unwrap());
        let mut room = Box::pin(to.has_room(2));
        let mut waits = || is_waiting(room.as_mut());
        assert!(waits());
        assert_eq!(from.try_recv(), Some(1));
        assert!(waits(), "one is not enough");
        assert_eq!(from.try_recv(), Some(2));
        assert!(!waits());
        drop(room);
        to.try_send(20).unwrap();
        let mut room = Box::pin(to.has_room(1));
        let mut waits = || is_waiting(room.as_mut());
        assert!(waits(), "by its bytes it is full");
        while from.try_recv().is_some() {}
        assert!(!waits());
    }

    /// Whether it waits for something.
    fn is_waiting(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
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
