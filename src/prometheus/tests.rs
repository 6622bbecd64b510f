use super::*;
use crate::{clock::Now, limits::LABELLED_QUEUES_MAX, metrics::QueueSample};

fn status() -> Status {
    Status::new(2, Now { mono_ns: 0, wall_ms: 1_700_000_000_500 })
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn every_promised_name_is_there() {
    let text = render(&status(), &[]);
    for name in [
        "realtime_websocket_connections_total gauge",
        "realtime_websocket_connections_authenticated gauge",
        "realtime_websocket_connections_per_room gauge",
        "realtime_messages_sent_total counter",
        "realtime_messages_received_total counter",
        "realtime_notifications_delivered_total counter",
        "realtime_grpc_requests_total counter",
        "realtime_grpc_request_duration_seconds histogram",
        "realtime_errors_total counter",
        "websocket_clients_total gauge",
        "websocket_rooms_total gauge",
        "websocket_messages_per_second gauge",
        "websocket_errors_total counter",
    ] {
        assert!(has(&text, &format!("# TYPE {name}")), "{name}");
    }
    assert!(has(&text, "process_start_time_seconds 1700000000.5"));
}

#[test]
fn every_name_is_there_once_and_told_of_in_the_readme() {
    let text = render(&status(), &[]) + &render_queues(&mut []);
    let readme = include_str!("../../README.md");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut names: Vec<&str> = families.collect();
    let told = |name: &str| {
        let quoted = format!("`{name}");
        let mut found = readme.match_indices(&quoted);
        found.any(|(at, _)| readme[at + quoted.len()..].starts_with(['`', '{']))
    };
    let untold: Vec<&str> = names.iter().copied().filter(|name| !told(name)).collect();
    assert_eq!(untold, [""; 0], "write into README what they count");
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a family is told of twice");
}

#[test]
fn every_line_is_a_comment_or_a_sample_of_its_family() {
    let text = render(&status(), &[("a\"b".into(), 1)]);
    let mut family = "";
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => family = comment.split(' ').nth(1).unwrap(),
            None => {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(family) && value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
    assert!(has(&text, r#"realtime_websocket_connections_per_room{room="a\"b"} 1"#));
}

#[test]
fn cores_are_added_up_or_labelled() {
    let status = status();
    for (core, shard) in status.cells.iter().enumerate() {
        shard.connections.set(core as u64 + 3);
        shard.sent.count("booking:confirmed");
        shard.count_close(4413);
        shard.latency[0].record(50, 1);
        shard.resumes[1].add(3);
        shard.latency[2].record(7_000_000, 1);
        shard.handshake_turns.record(30, core as u64);
        shard.deflated.bytes_before.set(100);
        shard.inflated.bytes_before.set(7);
    }
    status.control.memberships.set(9);
    status.control.methods[4].by_code[8].add(1);
    let text = render(&status, &[("event:1".into(), 5)]);
    for line in [
        "realtime_websocket_connections_total 7",
        r#"usher_resumes_total{result="gap"} 6"#,
        r#"usher_connections{core="1"} 4"#,
        r#"usher_loop_turn_seconds_bucket{core="1",task="handshakes",le="0.000025"} 0"#,
        r#"usher_loop_turn_seconds_bucket{core="1",task="handshakes",le="0.00005"} 1"#,
        r#"usher_loop_turn_seconds_count{core="0",task="handshakes"} 0"#,
        r#"realtime_messages_sent_total{type="booking:confirmed"} 2"#,
        r#"usher_closed_total{code="4413"} 2"#,
        r#"usher_compression_plain_bytes_total{direction="out"} 200"#,
        r#"usher_compression_deflated_bytes_total{direction="in"} 14"#,
        r#"realtime_errors_total{type="slow_consumer"} 2"#,
        "websocket_errors_total 2",
        r#"usher_delivery_latency_seconds_bucket{class="critical",le="0.000025"} 0"#,
        r#"usher_delivery_latency_seconds_bucket{class="critical",le="0.00005"} 2"#,
        r#"usher_delivery_latency_seconds_bucket{class="critical",le="+Inf"} 2"#,
        r#"usher_delivery_latency_seconds_sum{class="critical"} 0.0001"#,
        r#"usher_delivery_latency_seconds_count{class="critical"} 2"#,
        r#"usher_delivery_latency_seconds_count{class="ordered"} 0"#,
        r#"usher_delivery_latency_seconds_bucket{class="latest",le="5"} 0"#,
        r#"usher_delivery_latency_seconds_count{class="latest"} 2"#,
        r#"realtime_websocket_connections_per_room{room="event:1"} 5"#,
        r#"realtime_websocket_connections_per_room{room="other"} 4"#,
        r#"realtime_grpc_requests_total{method="SendToUser",code="RESOURCE_EXHAUSTED"} 1"#,
    ] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_largest_queues_have_labels_and_the_rest_is_added_up() {
    let sample = |index: u32| QueueSample {
        event_id: format!("e{index}").into(),
        serving: index,
        total: index,
        admitted: 1,
        places: [index, 0, 0, 0, 0, 0, 0, 0],
        log_bytes: 100 * u64::from(index),
    };
    let count = LABELLED_QUEUES_MAX as u32 + 2;
    let text = render_queues(&mut (1..=count).map(sample).collect::<Vec<_>>());
    for line in [
        format!(r#"usher_queue_places{{event="e{count}",state="waiting"}} {count}"#),
        r#"usher_queue_places{event="other",state="waiting"} 3"#.into(),
        r#"usher_queue_places{event="e3",state="departed"} 0"#.into(),
        r#"usher_queue_admitted{event="e3"} 1"#.into(),
        r#"usher_queue_log_bytes{event="e3"} 300"#.into(),
        r#"usher_queue_log_bytes{event="other"} 300"#.into(),
        format!(r#"usher_queue_serving{{event="e{count}"}} {count}"#),
    ] {
        assert!(has(&text, &line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"event="e2""#));
}
