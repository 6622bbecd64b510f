"""One publisher to 10 000 connections in one room on one shard, beside the bare send loop.

W1: one message in flight; W16: sixteen, where the bare loop sends what waits for a receiver in one call.
"""

from bench import compare


def run(bench):
    connections = bench.pick(10_000, 500)
    summary, repetitions = {"connections": connections}, []
    with bench.gateway() as gateway, bench.gateway() as again, bench.floor() as floor:
        servers = {"gateway": gateway, "floor": floor, "again": again}
        for window, bursts in ((1, bench.pick(60, 20)), (16, bench.pick(60, 10))):
            options = ["-n", connections, "--window", window, "--bursts", bursts, "--warm-up", 3]
            summary[f"W{window}"], runs = compare(bench, "fanout", options, servers)
            repetitions.append({"window": window, "rounds": runs})
    bench.record(summary, repetitions)
