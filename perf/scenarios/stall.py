"""5 % of the clients of a room stop reading, on two shards: the others' p99, the ends of the stalled, memory.

Beside each such round one in which nobody stops (A/A): its second phase differs from its first by noise alone. All
rounds are played on the same gateway: what the stalled held comes back if later ones leave no more than the first did.
"""

import re

from bench import spread

STALLED_PERCENT = 5


def run(bench):
    seconds = bench.pick(20, 8)
    options = ["-n", bench.pick(1_000, 300), "--rate", 40, "--seconds", seconds, "--payload", 1024]
    runs = []
    # Both shards on one core: the other one belongs to the load.
    with bench.gateway(SHARD_CORES="0,0") as gateway:
        for _ in range(bench.pick(3, 1)):
            for percent in (STALLED_PERCENT, 0):
                result = bench.load(gateway, "stall", "--percent", percent, *options)
                result["closed_4413"] = re.findall(r'^.*code="4413".*$', gateway.get("/metrics"), re.MULTILINE)
                runs.append(result)

    def of(percent):
        return [result for result in runs if result["asked"]["percent"] == percent]

    def ratios(percent):
        phases = [result["latency_us"] for result in of(percent)]
        return spread([round(phase["stalled"]["p99"] / phase["quiet"]["p99"], 3) for phase in phases])

    rss = [result["afterwards"]["rss_bytes"] for result in of(STALLED_PERCENT)]
    bench.record({
        "p99_us_quiet": spread([result["latency_us"]["quiet"]["p99"] for result in of(STALLED_PERCENT)]),
        "p99_us_stalled": spread([result["latency_us"]["stalled"]["p99"] for result in of(STALLED_PERCENT)]),
        "p99_ratio": ratios(STALLED_PERCENT),
        "a_a_ratio": ratios(0),
        "stalled_ends": [result["stalled_ends"] for result in of(STALLED_PERCENT)],
        "closed_4413": runs[-1]["closed_4413"],
        "rss_grown_while_stalled": spread([result["measured"]["rss_grown_bytes"] for result in of(STALLED_PERCENT)]),
        "rss_left_since_the_first_round": [bytes - rss[0] for bytes in rss[1:]],
    }, runs)
