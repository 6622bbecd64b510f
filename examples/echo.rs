//! The gateway as a library: a server that sends every message back, text and binary.
//!
//! It is what the Autobahn test suite judges (`tests/conformance/autobahn`), so its limits are those of the suite:
//! 16 MiB in one message, in as many fragments as it takes, compressed or not.
//!
//! ```sh
//! cargo run --release --example echo
//! npx wscat -c ws://127.0.0.1:9001/ws
//! ```

use std::{error::Error, net::Ipv4Addr};

use usher::{
    Handlers, Settings,
    config::settings::{Dialect, TlsSource},
    handler::{Body, Message, Replies},
};

/// The largest message of the suite, with room to spare.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

fn echo(message: Message<'_>, replies: &mut Replies) {
    match message.body {
        Body::Text(text) => replies.text(text),
        Body::Binary(bytes) => replies.binary(bytes),
        Body::Typed { .. } => {}
    }
}

#[allow(clippy::print_stdout, reason = "it tells a person, or a script, where it listens")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::default();
    settings.listen.host = Ipv4Addr::LOCALHOST.into();
    settings.listen.http_port = 9001;
    settings.listen.https_port = Some(9443);
    settings.listen.grpc.set_port(0);
    settings.listen.admin = None;
    settings.tls = Some(TlsSource::SelfSigned);
    settings.client.dialect = Dialect::Raw;
    settings.client.compression = true;
    settings.limits.message_bytes_max = MESSAGE_BYTES_MAX;
    settings.limits.fragments_max = u32::MAX;
    settings.limits.messages_max = 0;
    settings.limits.outbox_messages_max = 100_000;
    settings.limits.outbox_bytes_max = 8 * MESSAGE_BYTES_MAX;
    if let Some(port) = std::env::args().nth(1) {
        settings.listen.http_port = port.parse()?;
        settings.listen.https_port = Some(0);
    }
    let running = usher::start(settings, Handlers::new().on_raw(echo))?;
    println!("echo ws://{}/ws", running.addresses.ws);
    if let Some(wss) = running.addresses.wss {
        println!("echo wss://{wss}/ws");
    }
    running.wait()?;
    Ok(())
}
