//! The graceful stop.

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;
use crate::{control::gateway::PublishError, event::Refusal};

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
            ToShard::Drain { within } => assert_eq!(within, Duration::from_secs(25)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(world.status.ready().0, 503);
    let refused = world.gateway.broadcast("r", "ticket:sold", "{}").await.unwrap_err();
    assert_eq!(refused, PublishError::Refused(Refusal::Draining));
    drop((watch, health));
    for shard in &world.shards {
        shard.say(ToControl::Drained);
    }
    world.running.await.unwrap().unwrap();
    let refused = world.gateway.stats().await.unwrap_err();
    assert_eq!(refused, Refusal::Draining);
}

#[tokio::test]
async fn asked_twice_it_does_not_wait() {
    let world = World::start(|settings| settings.shutdown.drain_delay = Duration::from_secs(20));
    world.gateway.shutdown().await;
    assert!(world.gateway.broadcast("r", "ticket:sold", "{}").await.is_ok(), "clients are still there");
    world.gateway.shutdown().await;
    world.running.await.unwrap().unwrap();
}
