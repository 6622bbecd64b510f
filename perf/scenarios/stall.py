"""5 % of the clients of a room stop reading, on two shards: the others' p99, the ends of the stalled, memory.

Every round is played on the same gateway: what the stalled held comes back if rounds leave no more than the first did.
"""

import re

from bench import spread


def run(bench):
    seconds = bench.pick(20, 8)
    options = ["-n", bench.pick(1_000, 300), "--percent", 5, "--rate", 40, "--seconds", seconds, "--payload", 1024]
    runs = []
    # Both shards on one core: the other one belongs to the load.
    with bench.gateway(SHARD_CORES="0,0") as gateway:
        for _ in range(bench.pick(6, 2)):
            result = bench.load(gateway, "stall", *options)
            result["closed_4413"] = re.findall(r"^.*code=\"4413\".*$", gateway.get("/metrics"), re.MULTILINE)
            runs.append(result)

    def p99(phase):
        return [result["latency_us"][phase]["p99"] for result in runs]

    rss = [result["afterwards"]["rss_bytes"] for result in runs]
    bench.record({
        "p99_us_quiet": spread(p99("quiet")),
        "p99_us_stalled": spread(p99("stalled")),
        "p99_ratio": spread([round(stalled / quiet, 3) for stalled, quiet in zip(p99("stalled"), p99("quiet"))]),
        "stalled_ends": [result["stalled_ends"] for result in runs],
        "closed_4413": [result["closed_4413"] for result in runs],
        "rss_grown_while_stalled": spread([result["measured"]["rss_grown_bytes"] for result in runs]),
        "rss_left_since_the_first_round": [bytes - rss[0] for bytes in rss[1:]],
    }, runs)
