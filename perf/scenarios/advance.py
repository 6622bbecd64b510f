"""100 000 people in one waiting room, and AdvanceQueue: how soon everybody has the new position, and what telling it costs.

Everybody waits on a connection of one process, which has as many shards on core 0 as descriptors ask for. First calls at which
everybody is due, each measured from the call to the last position; they are compared with the bare send loop that writes as
long a frame with as many different digits to as many connections, once before and once after the gateway in each round. Then
calls a second apart, of which those far from the head see some: `age` is how old the position on a screen is when the next comes.
A run fails where a position is not exactly the place less the serving number, where one gets worse, or where one is missing.

Through Redis, small: what one more call asks of it, and publishes in it, beside the pass of the one whom it lets in.
"""

import contextlib
import socket

import host
from bench import Failed, ratios, scenario, spread

WANTED, SHORT_WANTED = 100_000, 2_000
# By then everybody may be told again; the fewer there are, the sooner.
APART_SECONDS, SHORT_APART_SECONDS = 11, 2
# What 03 §10 says of those far from the head.
STALENESS_SECONDS_MAX = 10
RATIO_ALLOWED = 1.3
# Three thousand pings a second, and their answers, are not what a position costs; idle-ws measures them.
NO_KEEP_ALIVES = {"WS_PING_INTERVAL": "1h", "WS_PONG_TIMEOUT": "2h"}
# Many calls: those who leave at the end are written in some entries more or fewer.
REDIS_PEOPLE, REDIS_CALLS, SHORT_REDIS_CALLS, REDIS_APART_SECONDS = 200, (2, 52), (2, 12), 0.2


def run(bench):
    shards, people = host.fit(bench, bench.pick(WANTED, SHORT_WANTED))
    calls, stream = bench.pick((3, 30), (2, 5))
    options = ["-n", people, "--room", "", "--calls", calls, "--stream", stream, "--timeout", 900,
               "--apart", bench.pick(APART_SECONDS, SHORT_APART_SECONDS)]
    rounds = []
    for _ in range(bench.rounds(3)):
        played = {name: once(bench, name, shards, options) for name in ("before", "gateway", "after")}
        rounds.append(played)
    summary = {"people": people, "shards": shards, "rounds": len(rounds), **told(rounds), "redis": through_redis(bench)}
    bench.record(summary, rounds)


def once(bench, name, shards, options):
    """One run on a server that was just started."""
    if name == "gateway":
        server = bench.gateway(SHARD_CORES=",".join(["0"] * shards), **NO_KEEP_ALIVES)
    else:
        server = bench.floor("--threads", shards)
    with server as started:
        return bench.load(started, "advance", *options)


def told(rounds):
    """What all rounds say."""
    gateway = [played["gateway"] for played in rounds]

    def sending(name):
        return [played[name]["figures"]["sending_us_per_position"] for played in rounds]

    def figure(name, digits=2):
        return spread([round(result["figures"][name], digits) for result in gateway])

    def ms(name, quantile):
        return spread([round(result["latency_us"][name][quantile] / 1000, 1) for result in gateway])

    floor = [(before + after) / 2 for before, after in zip(sending("before"), sending("after"))]
    ratio = ratios(sending("gateway"), floor)
    oldest = max(result["latency_us"]["stream age"]["max"] for result in gateway) / 1e6
    return {
        # The run has failed otherwise.
        "wrong_worse_or_lost_positions": 0,
        "at_once": {
            "near_p99_ms": ms("near", "p99"), "near_last_ms": ms("near", "max"),
            "p50_ms": ms("all", "p50"), "last_ms": ms("all", "max"), "rpc_ms": ms("rpc", "p50"),
            "positions": figure("positions", 0),
            "cpu_us_per_position": {name: spread([round(us, 3) for us in sending(name)])
                                    for name in ("gateway", "before", "after")},
            "ratio_to_floor": ratio,
            "a_a_ratio": ratios(sending("after"), sending("before")),
            "control_cpu_us_per_call": figure("control_us_per_call", 0),
        },
        "each_second": {
            "near_age_p99_ms": ms("stream near age", "p99"), "oldest_near_ms": ms("stream near age", "max"),
            "age_p99_ms": ms("stream age", "p99"), "oldest_ms": ms("stream age", "max"),
            "positions": figure("stream_positions", 0),
            "cpu_us_per_position": figure("stream_sending_us_per_position", 3),
            "control_cpu_us_per_call": figure("stream_control_us_per_call", 0),
        },
        "joining": {
            "joins_per_second": figure("joins_per_second", 0), "seconds": figure("join_seconds", 1),
            "control_cpu_us": figure("join_control_us"), "shard_cpu_us": figure("join_sending_us"),
            "rss_bytes_per_person": figure("join_rss_bytes_per_connection", 0),
            "rss_bytes_per_connection": figure("rss_bytes_per_connection", 0),
        },
        "goal": "met" if ratio["median"] <= RATIO_ALLOWED else "missed",
        "goal_of_staleness": "met" if oldest <= STALENESS_SECONDS_MAX else "missed",
    }


def through_redis(bench):
    """What each further call makes of commands in Redis."""
    few, many = bench.pick(REDIS_CALLS, SHORT_REDIS_CALLS)
    before, after = redis_commands(bench, few), redis_commands(bench, many)
    names = ("publish", "xadd")
    return {f"{name}_per_call": round((after.get(name, 0) - before.get(name, 0)) / (many - few), 1) for name in names}


def redis_commands(bench, calls):
    """Commands of a run with so many calls, by name; each call lets one person in."""
    ingest = scenario("ingest")
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(ingest.redis())
        gateway = stack.enter_context(bench.gateway(REDIS_URL=f"redis://{address}", QUEUE_UPDATE_INTERVAL="50ms"))
        bench.load(gateway, "advance", "-n", REDIS_PEOPLE, "--room", "", "--step", 1, "--calls", calls, "--stream", 0,
                   "--apart", REDIS_APART_SECONDS)
        return command_counts(address)


def command_counts(address):
    """Calls of each command, those of scripts too, by `INFO commandstats`."""
    host_name, port = address.rsplit(":", 1)
    with socket.create_connection((host_name, int(port)), timeout=10) as connection:
        connection.sendall(b"INFO commandstats\r\n")
        text = b""
        while b"\r\n\r\n" not in text:
            more = connection.recv(65536)
            if not more:
                raise Failed("Redis ended")
            text += more
            if text.startswith(b"$") and len(text) >= int(text[1:text.index(b"\r\n")]) + text.index(b"\r\n") + 4:
                break
    lines = [line.removeprefix("cmdstat_") for line in text.decode().splitlines() if line.startswith("cmdstat_")]
    return {name: int(rest.split(",")[0].removeprefix("calls=")) for name, rest in (line.split(":", 1) for line in lines)}
