//! Logs: one writer thread, JSON or pretty, to standard error.
//!
//! Owns the subscriber. Never blocks whoever logs: what the writer cannot take is dropped and counted. Never
//! writes tokens: nobody in this crate logs one, and the details of dependencies (DEBUG and TRACE, which may
//! show headers) are left out whatever the filter says.

pub(crate) mod sampled;

use std::io::{IsTerminal, Write};

use tracing::{Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::settings::{Log, LogFormat};

/// Lines that wait for the writer; about 300 B each, so at most a few megabytes.
const LINES_MAX: usize = 16_384;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_LEVEL` is no filter.
    #[error("LOG_LEVEL: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a subscriber already.
    #[error("logging was started before")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the writer thread; what was logged is written out when it is dropped.
#[derive(Debug)]
pub struct Logs {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Logs {
    /// Starts logging to standard error for the whole process.
    ///
    /// # Errors
    /// The level is no filter, or logging was started before.
    pub fn start(log: &Log) -> Result<Self, LogError> {
        let colours = std::io::stderr().is_terminal();
        let (writer, logs) = Self::to(std::io::stderr(), LINES_MAX);
        let lines = lines(log.format, writer, colours);
        tracing_subscriber::registry().with(lines.with_filter(filter(&log.level)?)).try_init()?;
        Ok(logs)
    }

    /// Lines that the writer could not take so far.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }

    /// A handle that counts on while this stays where it is.
    pub fn dropped(&self) -> Dropped {
        Dropped(self.dropped.clone())
    }

    fn to(out: impl Write + Send + 'static, lines_max: usize) -> (NonBlocking, Self) {
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines_max);
        let (writer, guard) = builder.thread_name("usher-log").finish(out);
        let logs = Self { dropped: writer.error_counter(), _writer: guard };
        (writer, logs)
    }
}

/// Counts the lines that were lost.
#[derive(Clone, Debug)]
pub struct Dropped(ErrorCounter);

impl Dropped {
    /// Lines that the writer could not take so far.
    pub fn lines(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

fn lines<S>(format: LogFormat, writer: NonBlocking, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer).boxed()
        }
        LogFormat::Pretty => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    }
}

fn filter<S>(level: &str) -> Result<impl tracing_subscriber::layer::Filter<S> + use<S>, LogError> {
    use tracing_subscriber::filter::FilterExt;
    let level = EnvFilter::builder().parse(level)?;
    // Without the hint every line of every crate would be looked at, on every core.
    let coarse = filter_fn(is_ours_or_coarse).with_max_level_hint(LevelFilter::TRACE);
    Ok(FilterExt::<S>::and(level, coarse))
}

fn is_ours_or_coarse(line: &Metadata<'_>) -> bool {
    let ours = line.target() == "usher" || line.target().starts_with("usher::");
    ours || *line.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;
    use crate::{clock::Now, prometheus, status::Status};

    struct Out(SyncSender<Vec<u8>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: &str, log: impl FnOnce()) -> String {
        let (sender, receiver): (_, Receiver<Vec<u8>>) = sync_channel(64);
        let (writer, logs) = Logs::to(Out(sender), LINES_MAX);
        let subscriber = tracing_subscriber::registry()
            .with(lines(format, writer, false).with_filter(filter(level).unwrap()));
        tracing::subscriber::with_default(subscriber, log);
        assert_eq!(logs.dropped_lines(), 0);
        drop(logs);
        String::from_utf8(receiver.iter().flatten().collect()).unwrap()
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top() {
        let text = written(LogFormat::Json, "info", || tracing::info!(shard = 3, "listening"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (&line["message"], &line["shard"], &line["level"]),
            (&"listening".into(), &3.into(), &"INFO".into())
        );
    }

    #[test]
    fn a_pretty_line_is_for_people() {
        let text = written(LogFormat::Pretty, "info", || tracing::warn!(shard = 3, "slow"));
        assert!(text.contains("WARN") && text.contains("slow shard=3") && !text.contains('{'), "{text}");
    }

    #[test]
    fn details_of_dependencies_stay_out_whatever_the_level() {
        let text = written(LogFormat::Json, "trace", || {
            tracing::trace!(target: "h2::hpack", "authorization: Bearer canary");
            tracing::debug!(target: "usherette", "canary");
            tracing::info!(target: "h2", "gone away");
            tracing::trace!("ours");
        });
        assert!(!text.contains("canary") && text.contains("gone away") && text.contains("ours"), "{text}");
    }

    #[test]
    fn what_is_finer_than_the_level_is_not_even_looked_at() {
        use tracing_subscriber::{Registry, layer::Filter};
        let hint = filter::<Registry>("info").unwrap().max_level_hint();
        assert_eq!(hint, Some(LevelFilter::INFO));
    }

    #[test]
    fn lines_that_the_writer_cannot_take_are_counted_and_shown() {
        const LINES: u64 = 20;
        let (sender, receiver) = sync_channel(0);
        let (writer, logs) = Logs::to(Out(sender), 2);
        let subscriber = tracing_subscriber::registry().with(lines(LogFormat::Json, writer, false));
        tracing::subscriber::with_default(subscriber, || (0..LINES).for_each(|n| tracing::info!(n, "flood")));
        // Two wait, and the writer may have one in hand.
        let dropped = logs.dropped().lines();
        assert!((LINES - 3..=LINES - 2).contains(&dropped), "{dropped}");
        let status = Status::new(1, Now { mono_ns: 0, wall_ms: 0 }).with_logs(Some(logs.dropped()));
        let text = prometheus::render(&status, &[]);
        assert!(text.contains(&format!("\nusher_log_lines_dropped_total {dropped}\n")), "{text}");
        drop(receiver);
    }

    #[test]
    fn a_filter_names_targets() {
        let text = written(LogFormat::Json, "warn,usher::hub=debug", || {
            tracing::debug!(target: "usher::hub", "joined");
            tracing::info!(target: "usher::wire", "parsed");
        });
        assert!(text.contains("joined") && !text.contains("parsed"), "{text}");
    }
}
