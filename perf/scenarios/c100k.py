"""100 000 connections of one process, held: a message to all every second, a thousand to single users beside it.

What the host does not allow makes it smaller, with the reason on stderr.
"""

import re
import sys
import time

import host

WANTED, HOLD_SECONDS = 100_000, 300
SHORT_WANTED, SHORT_HOLD_SECONDS = 5_000, 8
CLOSE_SECONDS_MAX = 30
BROADCASTS_PER_SECOND, NOTIFICATIONS_PER_SECOND = 1, 1_000


def run(bench):
    wanted = bench.pick(WANTED, SHORT_WANTED)
    seconds = bench.options.seconds or bench.pick(HOLD_SECONDS, SHORT_HOLD_SECONDS)
    shards, connections = host.fit(bench, wanted)
    options = ["-n", connections, "--seconds", seconds, "--rate", BROADCASTS_PER_SECOND, "--user-rate",
               NOTIFICATIONS_PER_SECOND, "--type", "notification:new", "--timeout", 900 + 4 * seconds]
    with bench.gateway(SHARD_CORES=",".join(["0"] * shards)) as gateway:
        before = open_files(gateway)
        result = bench.load(gateway, "hold", *options)
        stored = stored_bytes(gateway)
        left = left_open(gateway, before)
    # Kept up: each message had reached nearly everybody before the next was due, the last one too.
    figures, measured = result["figures"], result["measured"]
    room, users = result["latency_us"]["room"], result["latency_us"]["users"]
    summary = {
        "connections": connections,
        "wanted": wanted,
        "shards": shards,
        "seconds": round(result["seconds"], 1),
        # The run has failed otherwise.
        "lost_repeated_or_reordered": 0,
        "deliveries": result["deliveries"],
        "connects_per_second": figures["connects_per_second"],
        "rss_bytes_per_connection": figures["rss_bytes_per_connection"],
        "slab_bytes_per_connection_both_ends": figures["slab_bytes_per_connection_both_ends"],
        "tcp_buffer_bytes_per_connection_both_ends": figures["tcp_buffer_bytes_per_connection_both_ends"],
        "rss_grown_bytes_while_held": measured["rss_grown_bytes"],
        # Of those, events kept for resume: a thousand notifications a second, for ten minutes each.
        "stored_bytes": stored,
        "descriptors_left": left,
        "cpu_percent": figures["cpu_percent"],
        "cpu_us_per_delivery": figures["cpu_us_per_delivery"],
        "to_all": {"per_second": round(figures["room_messages_per_second"], 3), **percentiles(room)},
        "to_one": {"per_second": round(figures["user_messages_per_second"], 1), **percentiles(users)},
        "kept_up": result["seconds"] < seconds + 1 and room["p99"] < 1e6 / BROADCASTS_PER_SECOND,
    }
    if not summary["kept_up"]:
        say(f"saturated: {summary['to_all']['per_second']} of {BROADCASTS_PER_SECOND} messages to all per second, "
            f"p99 {room['p99'] / 1000:.0f} ms; nothing was lost")
    bench.record(summary, [result])


def open_files(gateway):
    """Descriptors of all tables."""
    return sum(gateway.footprint()["descriptors"].values())


def stored_bytes(gateway):
    """Events that are kept for resume."""
    return int(re.search(r"^usher_stream_bytes (\d+)$", gateway.get("/metrics"), re.MULTILINE).group(1))


def left_open(gateway, before):
    """Descriptors that are still open when a busy gateway has had time to close them."""
    deadline = time.monotonic() + CLOSE_SECONDS_MAX
    while (left := open_files(gateway) - before) > 0 and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def percentiles(us):
    """Of a latency, in milliseconds."""
    return {f"{name}_ms": round(us[name] / 1000, 2) for name in ("p50", "p99", "p999", "max")}


def say(line):
    """For whoever waits."""
    print(f"c100k: {line}", file=sys.stderr)
