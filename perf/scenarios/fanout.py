"""One publisher to 10 000 connections in one room on one shard, beside the bare send loop.

W1: one message in flight; W16: sixteen, where the bare loop sends what waits for a receiver in one call.
"""

from bench import CPU, Workload, beside_floor

CONNECTIONS, SHORT_CONNECTIONS = 10_000, 500


def workloads(bench):
    def workload(window, bursts):
        connections = bench.pick(CONNECTIONS, SHORT_CONNECTIONS)
        options = ["-n", connections, "--window", window, "--bursts", bursts, "--warm-up", 3]
        return Workload(f"W{window}", "fanout", options, CPU)

    return [workload(1, bench.pick(60, 20)), workload(16, bench.pick(60, 10))]


def run(bench):
    summary, repetitions = {"connections": bench.pick(CONNECTIONS, SHORT_CONNECTIONS)}, []
    for workload in workloads(bench):
        summary[workload.name], runs = beside_floor(bench, workload)
        repetitions.append({"workload": workload.name, "rounds": runs})
    bench.record(summary, repetitions)
