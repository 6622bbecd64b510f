"""One publisher to one user after the other, sixteen messages in flight, beside the bare send loop."""

from bench import compare


def run(bench):
    connections = bench.pick(1_000, 200)
    options = ["-n", connections, "--window", 16, "--bursts", bench.pick(10_000, 500)]
    with bench.gateway() as gateway, bench.gateway() as again, bench.floor() as floor:
        summary, runs = compare(bench, "unicast", options, {"gateway": gateway, "floor": floor, "again": again})
    bench.record({"connections": connections, **summary}, runs)
