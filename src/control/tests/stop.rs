//! The graceful stop.

use std::{io::ErrorKind, net::TcpStream};

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;
use crate::{control::gateway::PublishError, event::Refusal, generated::realtime::GetConnectionStatsRequest};

#[tokio::test]
async fn it_tells_everybody_and_ends_when_all_shards_are_empty() {
    let mut world = World::start(|_| ());
    let mut health = HealthClient::new(world.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut statuses = Vec::new();
    // The first status may still be that of a server whose shards do not accept.
    while statuses.last() != Some(&ServingStatus::Serving) {
        statuses.push(watch.message().await.unwrap().unwrap().status());
    }
    world.gateway.shutdown().await;
    for shard in &mut world.shards {
        match shard.next().await {
            ToShard::Drain { within } => assert_eq!(within, Duration::from_secs(28)),
            other => panic!("{other:?}"),
        }
        match shard.next().await {
            ToShard::SendAway { count, return_ms } => assert_eq!((count, return_ms), (None, 1_000)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(world.status.ready().0, 503);
    assert!(world.gateway.broadcast("r", "ticket:sold", "{}").await.is_ok(), "clients are still there");
    drop((watch, health));
    for shard in &world.shards {
        shard.say(ToControl::Drained);
    }
    world.running.await.unwrap().unwrap();
    let refused = world.gateway.broadcast("r", "ticket:sold", "{}").await.unwrap_err();
    assert_eq!(refused, PublishError::Refused(Refusal::Draining));
}

#[tokio::test]
async fn every_shard_sends_its_clients_away_at_their_turn() {
    let mut world = World::start(|settings| settings.shutdown.rate = 50);
    for (cells, connections) in world.status.cells.iter().zip([15, 5]) {
        cells.connections.set(connections);
    }
    world.gateway.shutdown().await;
    for (shard, connections) in world.shards.iter_mut().zip([15, 5]) {
        assert!(matches!(shard.next().await, ToShard::Drain { .. }));
        let mut counts = Vec::new();
        while counts.last() != Some(&None) {
            match shard.next().await {
                ToShard::SendAway { count, return_ms: 1_000 } => counts.push(count),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(counts[0], Some(1), "the first at once");
        assert!(counts.iter().flatten().sum::<u32>() <= connections, "{counts:?}");
    }
}

#[tokio::test]
async fn callers_are_told_to_go_elsewhere_when_clients_are() {
    let world = World::start(|_| ());
    let mut caller = world.client().await;
    caller.get_connection_stats(GetConnectionStatsRequest {}).await.unwrap();
    // One that waits at the listener when it closes is served all the same.
    let waits = TcpStream::connect(world.grpc).unwrap();
    world.gateway.shutdown().await;
    while caller.get_connection_stats(GetConnectionStatsRequest {}).await.is_ok() {}
    assert_eq!(TcpStream::connect(world.grpc).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop(waits);
    let (status, body) = pages::get(world.admin, "/ready").await;
    assert!(status.contains("503") && body.contains(r#""phase":"draining""#), "operators look: {body}");
}

#[tokio::test]
async fn a_successor_answers_operators_too() {
    let world = World::start(|settings| settings.shutdown.drain_delay = Duration::from_secs(20));
    world.gateway.taken_over().await;
    for address in [world.grpc, world.admin, world.health] {
        while TcpStream::connect(address).is_ok() {
            tokio::task::yield_now().await;
        }
    }
    assert!(world.gateway.stats().await.is_ok(), "clients are still there");
}

#[tokio::test]
async fn asked_twice_it_does_not_wait_and_three_times_for_nobody() {
    let mut world = World::start(|settings| {
        (settings.shutdown.drain_delay, settings.shutdown.rate) = (Duration::from_secs(20), 1);
    });
    world.status.cells[0].connections.set(20);
    world.gateway.shutdown().await;
    assert!(world.gateway.broadcast("r", "ticket:sold", "{}").await.is_ok(), "clients are still there");
    world.gateway.shutdown().await;
    for shard in &mut world.shards {
        assert!(matches!(shard.next().await, ToShard::Drain { .. }));
        match shard.next().await {
            ToShard::SendAway { count: None, return_ms } => assert!(return_ms > 10_000, "{return_ms}"),
            other => panic!("{other:?}"),
        }
    }
    world.gateway.shutdown().await;
    for shard in &mut world.shards {
        match shard.next().await {
            ToShard::Drain { within } => assert_eq!(within, Duration::ZERO),
            other => panic!("{other:?}"),
        }
    }
    world.running.await.unwrap().unwrap();
}
