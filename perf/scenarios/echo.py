"""system:ping round trips, sixteen in flight over 1 000 connections, beside a bare recv and send loop."""

from bench import CPU, Workload, beside_floor

CONNECTIONS, SHORT_CONNECTIONS = 1_000, 200


def workloads(bench):
    options = ["-n", bench.pick(CONNECTIONS, SHORT_CONNECTIONS), "--window", 16, "--seconds", bench.pick(8, 2)]
    return [Workload("echo", "echo", options, CPU, env={"RATE_LIMIT_MAX_MESSAGES": "0"}, floor=("--echo",))]


def run(bench):
    summary, runs = beside_floor(bench, *workloads(bench))
    bench.record({"connections": bench.pick(CONNECTIONS, SHORT_CONNECTIONS), **summary}, runs)
