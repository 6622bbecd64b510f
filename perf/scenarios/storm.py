"""Members of one wss shard get messages at a steady rate while others connect, anew or with a ticket of before.

The newcomers' generator shares its core with the members' and gives way to it (nice): what it takes there is in the latencies
too, so a ratio is what members see at most.
"""

import re
import time

from bench import Failed, spread

MEMBERS_SECONDS_MAX = 60


def run(bench):
    members, rate = bench.pick(1_000, 100), bench.pick(2_000, 200)
    newcomers, seconds = bench.pick(1_500, 100), bench.pick(8, 3)
    storms = {"quiet": None, "full": [], "resumed": ["--resume"]}
    runs = []
    with bench.gateway(TLS_SELF_SIGNED="true", HTTPS_PORT="0") as gateway:
        for _ in range(bench.pick(5, 1)):
            runs.append({
                name: phase(bench, gateway, members, rate, seconds, newcomers, options)
                for name, options in storms.items()
            })

    def series(name, figure):
        return [figure(played[name]) for played in runs]

    summary = {"members": members, "messages_per_second": rate, "newcomers_per_second": newcomers}
    for name in storms:
        summary[name] = {f"{p}_us": spread(series(name, lambda result, p=p: latency(result)[p])) for p in ("p50", "p99")}
        if name == "quiet":
            continue
        for p in ("p50", "p99"):
            summary[name][f"{p}_ratio_to_quiet"] = spread([
                round(latency(played[name])[p] / latency(played["quiet"])[p], 3) for played in runs
            ])
        for figure in ("handshakes_per_second", "handshake_us", "resumed_share"):
            summary[name][figure] = spread(series(name, lambda result, figure=figure: result["storm"][figure]))
    bench.record(summary, runs)


def latency(result):
    """Microseconds of a delivery, from when it should have been sent."""
    return result["latency_us"]["delivery"]


def phase(bench, gateway, members, rate, seconds, newcomers, storm):
    """The members' result while nobody connects, or while newcomers do with these options."""
    traffic = ["-n", members, "--rate", rate, "--seconds", seconds]
    with bench.loading(gateway, "unicast", *traffic, scheme="wss") as members_result:
        if storm is None:
            result = members_result()
            wait_for(gateway, 0)
            return result
        wait_for(gateway, members)
        before, began = counts(gateway), time.monotonic()
        # From before the first measured message until after the last one.
        options = ["-n", newcomers * (seconds + 4), "--connect-rate", newcomers, "--room", "", "--seconds", 0]
        options += ["--timeout", seconds + MEMBERS_SECONDS_MAX, *storm]
        with bench.loading(gateway, "idle", *options, scheme="wss", anonymous=True, nice=10) as storm_result:
            result = members_result()
            after, elapsed = counts(gateway), time.monotonic() - began
            storm_result()
    change = {name: after[name] - before[name] for name in after}
    handshakes = change["full"] + change["resumed"]
    result["storm"] = {
        **change,
        "handshakes_per_second": round(handshakes / elapsed, 1),
        # The time of the turns in which they were made, their HTTP and their 101 included.
        "handshake_us": round(change["turns_seconds"] * 1e6 / max(handshakes, 1), 1),
        "resumed_share": round(change["resumed"] / max(handshakes, 1), 4),
    }
    wait_for(gateway, 0)
    return result


def wait_for(gateway, connections):
    """Until the gateway has so many connections."""
    deadline = time.monotonic() + MEMBERS_SECONDS_MAX
    while (found := value(gateway.get("/metrics"), "websocket_clients_total")) != connections:
        if time.monotonic() > deadline:
            raise Failed(f"{found} connections, not {connections}, after {MEMBERS_SECONDS_MAX} s")
        time.sleep(0.05)


def counts(gateway):
    """Handshakes so far, and the seconds that they took."""
    text = gateway.get("/metrics")
    tls = {name: value(text, f'usher_tls_handshakes_total{{result="{name}"}}') for name in ("full", "resumed", "failed")}
    turns = value(text, 'usher_loop_turn_seconds_sum{core="0",task="handshakes"}')
    return {**tls, "false_claims": value(text, "usher_false_claims_total"), "turns_seconds": turns}


def value(text, series):
    """One sample of the metrics."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0
