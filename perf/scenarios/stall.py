"""5 % of the clients of a room stop reading, on two shards: the others' p99, the ends of the stalled, memory."""

import re

from bench import spread


def run(bench):
    seconds = bench.pick(20, 8)
    options = ["-n", bench.pick(1_000, 300), "--percent", 5, "--rate", 40, "--seconds", seconds, "--payload", 1024]
    runs = []
    for _ in range(bench.pick(5, 1)):
        # Both shards on one core: the other one belongs to the load.
        with bench.gateway(SHARD_CORES="0,0") as gateway:
            result = bench.load(gateway, "stall", *options)
            result["closed_4413"] = re.findall(r"^.*4413.*$", gateway.get("/metrics"), re.MULTILINE)
            runs.append(result)

    def p99(phase):
        return [result["latency_us"][phase]["p99"] for result in runs]

    bench.record({
        "p99_us_quiet": spread(p99("quiet")),
        "p99_us_stalled": spread(p99("stalled")),
        "p99_ratio": spread([round(stalled / quiet, 3) for stalled, quiet in zip(p99("stalled"), p99("quiet"))]),
        "stalled_ends": [result["stalled_ends"] for result in runs],
        "closed_4413": [result["closed_4413"] for result in runs],
        "rss_grown_while_stalled": spread([result["measured"]["rss_grown_bytes"] for result in runs]),
        "rss_grown_at_the_end": spread([result["afterwards"]["rss_grown_bytes"] for result in runs]),
    }, runs)
