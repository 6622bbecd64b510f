"""Members of one wss shard get messages at a steady rate while others connect: anew, with a ticket of before, or, in
`flood`, so many at once that handshakes wait all the time.

What is in the figures. The members' p50 and p99 count from when a message should have been sent until a member read it, so
their generator, gRPC and the control thread are in them. All of these share core 1 with the newcomers' generator, whose half
of a TLS handshake costs as much as the gateway's. That generator therefore runs only while nobody else wants the core
(SCHED_IDLE), and where this user may, the members' generator and the control thread have it whenever they want (SCHED_FIFO,
in the quiet phase too; `first` says whether). What is left of it in the members' figures: system calls that cannot be
interrupted, cold caches, and a bias: nobody begins a handshake while core 1 works on a message. `flood` is without the bias.

`gateway` is the gateway's own histogram, without any generator: from when control accepted a message to the turn of the shard
that wrote it, quantiles interpolated between its few bounds. `over_1_ms` is exact, percent of the deliveries.
"""

import re
import time

import bench as tools
from bench import Failed, sample, spread

MEMBERS_SECONDS_MAX = 60
# As many as one descriptor table and one generator's limit hold beside the members.
FLOOD = 17_000
FLOOD_UNDER_WAY = 1_024
# The flood is over in four, of which the members' generator settles for one.
FLOOD_SECONDS = 2
QUANTILES = {"p50": 0.5, "p99": 0.99}


def run(bench):
    members, rate = bench.pick(1_000, 100), bench.pick(2_000, 200)
    newcomers, seconds = bench.pick(1_500, 100), bench.pick(8, 3)
    # From before the first measured message until after the last one.
    steady = ["-n", newcomers * (seconds + 4), "--connect-rate", newcomers]
    storms = {
        "quiet": (seconds, None),
        "full": (seconds, steady),
        "resumed": (seconds, [*steady, "--resume"]),
        "flood": (FLOOD_SECONDS, ["-n", bench.pick(FLOOD, 1_000), "--handshakes", FLOOD_UNDER_WAY]),
    }
    first = tools.may_go_first()
    runs = []
    with bench.gateway(TLS_SELF_SIGNED="true", HTTPS_PORT="0") as gateway:
        if first:
            tools.put_first(gateway, "usher-control")
        for _ in range(bench.pick(5, 1)):
            runs.append({
                name: phase(bench, gateway, ["-n", members, "--rate", rate, "--seconds", lasts], options, first)
                for name, (lasts, options) in storms.items()
            })
    summary = {"members": members, "messages_per_second": rate, "newcomers_per_second": newcomers, "first": first}
    bench.record({**summary, **{name: summed(runs, name) for name in storms}}, runs)


def summed(runs, name):
    """The figures of one phase over all rounds, beside those of the quiet one."""
    def series(figure):
        return spread([figure(played[name]) for played in runs])

    figures = {f"{p}_us": series(lambda result, p=p: latency(result)[p]) for p in QUANTILES}
    figures["gateway"] = {each: series(lambda result, each=each: result["gateway"][each])
                          for each in (*(f"{p}_us" for p in QUANTILES), "over_1_ms")}
    if name == "quiet":
        return figures
    for p in QUANTILES:
        figures[f"{p}_ratio_to_quiet"] = spread([
            round(latency(played[name])[p] / latency(played["quiet"])[p], 3) for played in runs
        ])
    for figure in ("handshakes_per_second", "handshake_us", "resumed_share"):
        figures[figure] = series(lambda result, figure=figure: result["storm"][figure])
    return figures


def latency(result):
    """Microseconds of a delivery, from when it should have been sent."""
    return result["latency_us"]["delivery"]


def phase(bench, gateway, traffic, storm, first):
    """The members' result while nobody connects, or while newcomers do with these options."""
    members = traffic[1]
    with bench.loading(gateway, "unicast", *traffic, scheme="wss", turn=tools.FIRST if first else ()) as members_result:
        wait_for(gateway, members)
        before, began = counts(gateway), time.monotonic()
        if storm is None:
            result = members_result()
            after, elapsed = counts(gateway), time.monotonic() - began
        else:
            options = ["--room", "", "--seconds", 0, "--timeout", traffic[-1] + MEMBERS_SECONDS_MAX, *storm]
            newcomers = bench.loading(gateway, "idle", *options, scheme="wss", anonymous=True, turn=tools.LAST)
            with newcomers as storm_result:
                result = members_result()
                after, elapsed = counts(gateway), time.monotonic() - began
                storm_result()
    result["gateway"] = between(before.pop("latency"), after.pop("latency"))
    change = {name: after[name] - before[name] for name in after}
    handshakes = change["full"] + change["resumed"]
    result["storm"] = {
        **change,
        # Of a flood that is over before the members' generator is: at least.
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
    while (found := gateway.metric("websocket_clients_total")) != connections:
        if time.monotonic() > deadline:
            raise Failed(f"{found} connections, not {connections}, after {MEMBERS_SECONDS_MAX} s")
        time.sleep(0.05)


def counts(gateway):
    """Handshakes so far, the seconds that they took, and deliveries by how long they took."""
    text = gateway.get("/metrics")
    tls = {name: sample(text, f'usher_tls_handshakes_total{{result="{name}"}}') for name in ("full", "resumed", "failed")}
    turns = sample(text, 'usher_loop_turn_seconds_sum{core="0",task="handshakes"}')
    return {**tls, "false_claims": sample(text, "usher_false_claims_total"), "turns_seconds": turns,
            "latency": buckets(text, "usher_delivery_latency_seconds")}


def buckets(text, family):
    """Values up to each bound (seconds) of a histogram, all labels together."""
    sums = {}
    for bound, count in re.findall(rf'^{family}_bucket{{.*le="([^"]+)"}} (\S+)$', text, re.MULTILINE):
        sums[float(bound)] = sums.get(float(bound), 0.0) + float(count)
    return sums


def between(before, after):
    """Quantiles, and the share over a millisecond, of what a histogram counted between two readings."""
    counted = {bound: after[bound] - before[bound] for bound in sorted(after)}
    total = max(counted.values())
    return {
        **{f"{name}_us": quantile(counted, share * total) for name, share in QUANTILES.items()},
        "over_1_ms": round(100 * (1 - counted[0.001] / total), 3),
    }


def quantile(counted, wanted):
    """Where so many values are passed, in microseconds, taking those of a bucket for evenly spread."""
    lower, passed = 0.0, 0.0
    for bound, count in counted.items():
        if count >= wanted:
            share = (wanted - passed) / (count - passed)
            # The last bucket is open.
            return round(1e6 * (lower + share * (bound - lower)), 1) if bound != float("inf") else round(1e6 * lower, 1)
        lower, passed = bound, count
    return round(1e6 * lower, 1)
