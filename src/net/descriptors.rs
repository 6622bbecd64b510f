//! Descriptor tables: one for each thread that asks, so that the limit of open files counts for it alone.
//!
//! The table of a thread begins as a copy of the one that it leaves: a number that was open then means the same
//! file in both, until either closes it. That is what wakes between threads live on (each wake writes to an eventfd
//! by number): whatever wakes a thread is opened before any table is copied, and lives as long as the threads do. What is
//! opened afterwards belongs to the threads of one table, and a copied descriptor keeps its file open in all of them:
//! so tables are copied before there are listeners and connections.

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread, and the threads that it will start, a copy of the descriptor table for themselves.
///
/// From here on it must share no descriptor with other threads but those that are open now. Fails where a sandbox
/// forbids `unshare` (EPERM) or memory is short; the table is shared as before then.
pub fn make_private() -> io::Result<()> {
    // SAFETY: what another thread opens later must not be used here by its number, nor the other way round. Shards
    // own their sockets and send none away; wakes use descriptors that are open in both tables, as told above.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FILES) }?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        sync::mpsc::{Receiver, sync_channel},
        task::{Context, Waker},
        time::Duration,
    };

    use super::*;
    use crate::{
        mesh::Mailbox,
        net::readiness::{Bell, Readiness},
    };

    /// How long a wake may take before it counts as lost.
    const PATIENCE: Duration = Duration::from_secs(15);

    fn on_a_private_table<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        let body = || {
            make_private().unwrap();
            test()
        };
        std::thread::spawn(body).join().unwrap()
    }

    fn open_files() -> usize {
        std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
    }

    #[test]
    fn what_is_open_is_copied_and_what_comes_later_is_not() {
        let (ask, asked) = sync_channel(1);
        let (answer, answered) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            make_private().unwrap();
            let before = open_files();
            answer.send(before).unwrap();
            asked.recv().unwrap();
            (before, open_files())
        });
        answered.recv().unwrap();
        let files: Vec<File> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
        ask.send(()).unwrap();
        let (before, after) = thread.join().unwrap();
        assert_eq!(before, after);
        assert!(on_a_private_table(open_files) >= files.len());
    }

    /// Sends messages to and fro between a thread that sleeps in its set and a runtime of another table, neither of
    /// which has a timer that could wake it instead.
    fn ping_pong(rounds: u32) -> Receiver<u32> {
        let (to_shard, mut mailbox) = Mailbox::bounded(4);
        let (to_control, mut from_shard) = Mailbox::bounded(4);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bell = Bell::new().unwrap();
        let (split, is_split) = sync_channel(1);
        let shard = std::thread::spawn(move || {
            make_private().unwrap();
            split.send(()).unwrap();
            // The same numbers as the other thread's mean other files here.
            let _files: Vec<File> = (0..64).map(|_| File::open("/dev/null").unwrap()).collect();
            let mut set = Readiness::new(&bell).unwrap();
            let waker = Waker::from(bell);
            for round in 0..rounds {
                while mailbox.poll_ready(&mut Context::from_waker(&waker)).is_pending() {
                    set.wait(PATIENCE, &mut Vec::new()).unwrap();
                }
                assert_eq!(mailbox.try_recv(), Some(round));
                to_control.try_send(round).unwrap();
            }
        });
        is_split.recv().unwrap();
        let (done, is_done) = sync_channel(1);
        std::thread::spawn(move || {
            let _files: Vec<File> = (0..64).map(|_| File::open("/dev/zero").unwrap()).collect();
            runtime.block_on(async {
                for round in 0..rounds {
                    to_shard.try_send(round).unwrap();
                    from_shard.ready().await;
                    assert_eq!(from_shard.try_recv(), Some(round));
                }
            });
            shard.join().unwrap();
            done.send(rounds).unwrap();
        });
        is_done
    }

    #[test]
    fn mailboxes_wake_threads_of_other_tables() {
        assert_eq!(ping_pong(2_000).recv_timeout(PATIENCE), Ok(2_000));
    }
}
