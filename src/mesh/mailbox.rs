//! A bounded lock-free mailbox with a wake-up flag.
//!
//! Owns the queue and the receiver's waker. Never blocks and never holds more than its capacity; its memory is that of
//! what waits, in blocks of some dozens, so that the bound of a mailbox costs nothing until a receiver stalls.
//! Invariant: a receiver that found the mailbox empty after it registered its waker is woken by the next send.
//! Wake-ups are coalesced: senders wake only a receiver that sleeps.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use crossbeam_queue::SegQueue;

/// A message as a mailbox has to know it.
pub trait Weigh {
    /// Bytes that it keeps from being freed while it waits, as far as they are worth counting; never changes.
    fn bytes(&self) -> usize {
        0
    }
}

/// What both ends share.
#[derive(Debug)]
struct Shared<T> {
    queue: SegQueue<T>,
    /// Of messages that wait.
    capacity: usize,
    /// Messages in the queue, at least: a sender counts before it puts a message in, the receiver after it took one out.
    waiting: AtomicUsize,
    /// Set by a receiver that is about to sleep, taken by the sender that wakes it.
    asleep: AtomicBool,
    waker: AtomicWaker,
    /// Sends that found the queue full; for the metric.
    refused: AtomicU64,
    /// Of the messages in the queue, at least; as `waiting`.
    bytes: AtomicUsize,
}

/// Names the mailbox between one sending core and one receiving core.
#[derive(Debug)]
pub struct Mailbox;

impl Mailbox {
    /// A mailbox for `capacity >= 1` messages.
    pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let shared = Arc::new(Shared {
            queue: SegQueue::new(),
            capacity,
            waiting: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            refused: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
        });
        (Sender { shared: shared.clone() }, Receiver { shared })
    }
}

/// The sending end; several may exist.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Weigh> Sender<T> {
    /// Puts the message in, or gives it back when the mailbox is full.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        let Shared { queue, capacity, waiting, refused, .. } = &*self.shared;
        if waiting.fetch_add(1, Ordering::Relaxed) >= *capacity {
            waiting.fetch_sub(1, Ordering::Relaxed);
            refused.fetch_add(1, Ordering::Relaxed);
            return Err(message);
        }
        let bytes = message.bytes();
        if bytes > 0 {
            self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        queue.push(message);
        // Pairs with the fence of `Receiver::poll_ready`: either this load sees the flag, or the receiver's second
        // look sees the message.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::Relaxed) && self.shared.asleep.swap(false, Ordering::AcqRel) {
            self.shared.waker.wake();
        }
        Ok(())
    }

    /// Bytes that wait now. With one sender it can only shrink until that sender sends.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Messages that fit now. With one sender it can only grow until that sender sends.
    pub fn free(&self) -> usize {
        self.shared.capacity.saturating_sub(self.len())
    }

    /// Messages waiting now.
    pub fn len(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether nothing waits now.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Sends refused so far because the mailbox was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

/// The receiving end; one task.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Weigh> Receiver<T> {
    /// The oldest message, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        let message = self.shared.queue.pop()?;
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        let bytes = message.bytes();
        if bytes > 0 {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        Some(message)
    }

    /// Messages waiting now.
    pub fn len(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether nothing waits now.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Sends refused so far because the mailbox was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Ready when there is a message; else the task is woken by the next send.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shared.queue.is_empty() {
            return Poll::Ready(());
        }
        self.shared.waker.register(cx.waker());
        self.shared.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence of `Sender::try_send`.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.shared.queue.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Tells senders that nobody has to be woken any more, whatever it was that ended the sleep.
    pub fn wake_up(&mut self) {
        self.shared.asleep.store(false, Ordering::Relaxed);
    }

    /// Waits until there is a message.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Weigh for u32 {
        fn bytes(&self) -> usize {
            *self as usize
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back_and_counts_it() {
        let (sender, mut receiver) = Mailbox::bounded(2);
        assert_eq!((sender.try_send(1), sender.try_send(2), sender.try_send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!((sender.free(), sender.refused()), (0, 1));
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(1), Some(2), None));
    }

    #[test]
    fn room_for_messages_that_do_not_come_takes_no_memory() {
        let (sender, mut receiver) = Mailbox::bounded(usize::MAX);
        assert_eq!((sender.try_send(1), sender.free()), (Ok(()), usize::MAX - 1));
        assert_eq!((receiver.try_recv(), sender.free()), (Some(1), usize::MAX));
    }

    #[test]
    fn bytes_are_those_of_what_waits() {
        let (sender, mut receiver) = Mailbox::bounded(2);
        assert_eq!((sender.try_send(10), sender.try_send(5), sender.try_send(7)), (Ok(()), Ok(()), Err(7)));
        assert_eq!(sender.bytes(), 15, "what was refused does not wait");
        assert_eq!((receiver.try_recv(), sender.bytes()), (Some(10), 5));
        assert_eq!((receiver.try_recv(), receiver.try_recv(), sender.bytes()), (Some(5), None, 0));
    }

    #[test]
    fn a_batch_of_sends_wakes_a_sleeping_receiver_once() {
        let (sender, mut receiver) = Mailbox::bounded(8);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(receiver.poll_ready(&mut cx).is_pending());
        for message in 0..4 {
            sender.try_send(message).unwrap();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(receiver.poll_ready(&mut cx).is_ready());
    }

    #[test]
    fn a_receiver_that_woke_up_by_itself_is_not_woken() {
        let (sender, mut receiver) = Mailbox::bounded(8);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(receiver.poll_ready(&mut Context::from_waker(&waker)).is_pending());
        receiver.wake_up();
        sender.try_send(1).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn every_message_arrives_once_and_in_order_across_threads() {
        let (sender, mut receiver) = Mailbox::bounded(16);
        let producer = std::thread::spawn(move || {
            for n in 0..100_000_u32 {
                let mut message = n;
                while let Err(back) = sender.try_send(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 100_000 {
            match receiver.try_recv() {
                Some(n) => {
                    assert_eq!(n, expected);
                    expected += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        producer.join().unwrap();
    }
}
