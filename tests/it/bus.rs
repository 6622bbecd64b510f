//! Redis (catalogue H): foreign channels, outages, TLS, passwords.

use crate::support::redis::{Options, Redis};

#[test]
fn a_redis_of_a_test_keeps_what_it_wrote_and_asks_for_its_password() {
    let options = Options {
        tls: true,
        password: Some("open-sesame"),
        append_only: true,
        lines: &["user alice on >wonder ~* &* +@all"],
    };
    let mut redis = Redis::with(&options);
    assert_eq!(redis.cli(&["SET", "key", "value"]), "OK");
    redis.kill();
    redis.restart();
    assert_eq!(redis.cli(&["GET", "key"]), "value");
    assert!(redis.cli(&["AUTH", "alice", "wonder"]).ends_with("OK"));
}
