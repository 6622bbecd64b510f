"""The cost of a delivery and of a connection at 1 000, 10 000, 50 000 and 100 000 connections of one process.

At every count the same window (one message to all in flight, the next when everybody has it), about the same number of
deliveries, and the same shards on core 0: servers work all the time that is measured, whatever the count. A fixed rate would
compare a process that mostly waits at 1 000 connections with one that cannot keep up at 100 000.

The floor has as many threads as the gateway has shards: what it grows by is the kernel's. That is more than records which no
cache holds any more. A connection whose messages are 200 ms and more apart (the shortest retransmission timeout), as they are
at 50 000 and above, acknowledges each at once, on loopback at the sender's expense. `10000 paced` (four messages a second) has
the same, so `same_kernel_path_growth`, from it to the most connections, is free of that step. So is `same_rate_growth`, from
`1000 paced`, where each connection gets about as many messages a second as each of the most does; it holds what the process
does while it waits, which is little at 10 000 and not at 1 000: the floor has that too. New connections
acknowledge their first sixteen so too, which a warm-up of twenty leaves out.

Each run is on a server of its own, since memory is one of the figures; a process that was just started touches memory for the
first time, so `rss_bytes_per_further_connection` leaves out what the fewest connections took.
"""

import host
from bench import PARTS, ratios, spread

COUNTS, SHORT_COUNTS = (1_000, 10_000, 50_000, 100_000), (100, 500, 1_000, 2_000)
# Which of the counts are played at a fixed rate as well.
PACED = (0, 1)
PACED_RATE, PACED_SECONDS, SHORT_PACED_SECONDS = 4, 6, 2
DELIVERIES, SHORT_DELIVERIES = 500_000, 20_000
BURSTS_MIN = 6
# Where messages follow closely, more than a new connection acknowledges at once; else for what is touched first.
WARM_UP_BURSTS, WARM_UP_BURSTS_MANY, MANY = 20, 3, 20_000
GROWTH_ALLOWED = 1.3
SERVERS = ("gateway", "floor")


def run(bench):
    # As many shards as the most connections need, in a smoke run too.
    shards, most = host.fit(bench, COUNTS[-1])
    runs = plan(bench, most)
    # A drift of the machine falls on all counts and on both servers alike.
    rounds = [
        {label: {name: once(bench, name, shards, options) for name in (SERVERS if number % 2 == 0 else SERVERS[::-1])}
         for label, options in runs.items()}
        for number in range(bench.rounds(2))
    ]
    at = {label: figures([played[label] for played in rounds]) for label in runs}
    summary = {"shards": shards, "rounds": len(rounds), "growth_allowed": GROWTH_ALLOWED, "at": at, **growth(rounds)}
    bench.record(summary, rounds)


def plan(bench, most):
    """The runs of a round: label → options of usher-load, from the fewest connections to the most."""
    runs = {}
    for number, wanted in enumerate(bench.pick(COUNTS, SHORT_COUNTS)):
        count = min(wanted, most)
        bursts = max(BURSTS_MIN, bench.pick(DELIVERIES, SHORT_DELIVERIES) // count)
        common = ["-n", count, "--warm-up", WARM_UP_BURSTS if count < MANY else WARM_UP_BURSTS_MANY]
        runs[str(count)] = [*common, "--bursts", bursts]
        if number in PACED:
            seconds = bench.pick(PACED_SECONDS, SHORT_PACED_SECONDS)
            runs[f"{count} paced"] = [*common, "--rate", PACED_RATE, "--seconds", seconds]
    return runs


def once(bench, name, shards, options):
    """One run on a server that was just started."""
    start = {
        "gateway": lambda: bench.gateway(SHARD_CORES=",".join(["0"] * shards)),
        "floor": lambda: bench.floor("--threads", shards),
    }[name]
    with start() as server:
        return bench.load(server, "fanout", "--window", 1, *options)


def figures(results):
    """What one count costs: a spread for each server, and their ratio."""
    def both(figure):
        return {name: spread([figure(result[name]) for result in results]) for name in SERVERS}

    of = {name: both(lambda result, name=name: result["figures"][name]) for name in
          ("rss_bytes_per_connection", "slab_bytes_per_connection_both_ends")}
    for title, figure in PARTS.items():
        of[f"{title}_cpu_us_per_delivery"] = both(figure)
        of[f"{title}_ratio_to_floor"] = ratios(*([figure(result[name]) for result in results] for name in SERVERS))
    return of


def growth(rounds):
    """How a delivery's cost grows from the fewest connections to the most, and what each connection beyond the fewest took."""
    labels = list(rounds[0])
    fewest, most = labels[0], labels[-1]
    few_paced, many_paced = (label for label in labels if label.endswith("paced"))
    grown = {}
    for title, figure in PARTS.items():
        grown[f"{title}_growth"] = grown_from(rounds, figure, fewest, most)
        grown[f"{title}_same_kernel_path_growth"] = grown_from(rounds, figure, many_paced, most)
        grown[f"{title}_same_rate_growth"] = grown_from(rounds, figure, few_paced, most)
    further = {name: spread([round(memory(played, name, fewest, most), 1) for played in rounds]) for name in SERVERS}

    def goal(key):
        return "met" if grown[key]["gateway"]["median"] < GROWTH_ALLOWED else "missed"

    return {**grown, "rss_bytes_per_further_connection": further, "goal": goal("process_growth"),
            "goal_on_the_same_kernel_path": goal("process_same_kernel_path_growth"),
            "goal_at_the_same_rate": goal("process_same_rate_growth")}


def grown_from(rounds, figure, fewer, more):
    """The ratio of two counts' costs for each server, and that of the gateway to that of the floor."""
    each = {name: [figure(played[more][name]) / figure(played[fewer][name]) for played in rounds] for name in SERVERS}
    spreads = {name: spread([round(ratio, 3) for ratio in values]) for name, values in each.items()}
    return {**spreads, "gateway_beside_floor": ratios(each["gateway"], each["floor"])}


def memory(played, name, fewest, most):
    """Resident bytes of each connection beyond the fewest."""
    few, many = played[fewest][name], played[most][name]
    grown = [result["figures"]["rss_bytes_per_connection"] * result["connections"] for result in (few, many)]
    return (grown[1] - grown[0]) / max(many["connections"] - few["connections"], 1)
