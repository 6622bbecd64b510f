"""system:ping round trips, sixteen in flight over 1 000 connections, beside a bare recv and send loop."""

from bench import compare


def run(bench):
    connections = bench.pick(1_000, 200)
    options = ["-n", connections, "--window", 16, "--seconds", bench.pick(8, 2)]
    free = {"RATE_LIMIT_MAX_MESSAGES": "0"}
    with bench.gateway(**free) as gateway, bench.gateway(**free) as again, bench.floor("--echo") as floor:
        summary, runs = compare(bench, "echo", options, {"gateway": gateway, "floor": floor, "again": again})
    bench.record({"connections": connections, **summary}, runs)
