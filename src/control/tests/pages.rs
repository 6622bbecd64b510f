//! The admin pages over HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// Status line and body.
pub(super) async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let (head, body) = whole(address, path).await;
    (head.lines().next().unwrap().into(), body)
}

/// Head and body.
async fn whole(address: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.into(), body.into())
}

#[tokio::test]
async fn every_page_says_how_things_stand() {
    let world = World::start(|_| ());
    world.shards[0].joined("event:1", 3);
    world.status.cells[0].connections.set(4);
    let table = [
        ("/", "<td>event:1<td>3"),
        ("/metrics", r#"realtime_websocket_connections_per_room{room="event:1"} 3"#),
        ("/health", r#""clients":4"#),
        ("/ready", r#""status":"ready""#),
        ("/stats", r#""roomMembers":{"event:1":3}"#),
    ];
    for (path, expected) in table {
        let (status, body) = get(world.admin, path).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
        assert!(body.contains(expected), "{path}: {expected} not in {body}");
    }
    assert_eq!(get(world.admin, "/nothing").await.0, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn a_waiting_room_is_shown_on_the_admin_port_where_it_is_asked_for() {
    assert_eq!(get(World::start(|_| ()).admin, "/onsale").await.0, "HTTP/1.1 404 Not Found");
    let world = World::start(|settings| settings.listen.onsale_page = true);
    let (head, body) = whole(world.admin, "/onsale").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && body.contains("<title>Waiting room</title>"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; "), "{head}");
    assert_eq!(get(world.health, "/onsale").await.0, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn the_health_port_shows_health_alone() {
    let world = World::start(|_| ());
    for (path, status) in [("/health", "200 OK"), ("/ready", "200 OK"), ("/metrics", "404 Not Found")] {
        assert_eq!(get(world.health, path).await.0, format!("HTTP/1.1 {status}"), "{path}");
    }
}

#[tokio::test]
async fn a_draining_gateway_is_not_ready() {
    let world = World::start(|_| ());
    world.status.begin_draining();
    let (status, body) = get(world.health, "/ready").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("draining"), "{body}");
}
