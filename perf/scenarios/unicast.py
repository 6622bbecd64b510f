"""One publisher to one user after the other, sixteen messages in flight, beside the bare send loop."""

from bench import CPU, Workload, beside_floor

CONNECTIONS, SHORT_CONNECTIONS = 1_000, 200


def workloads(bench):
    options = ["-n", bench.pick(CONNECTIONS, SHORT_CONNECTIONS), "--window", 16, "--bursts", bench.pick(10_000, 500)]
    return [Workload("unicast", "unicast", options, CPU)]


def run(bench):
    summary, runs = beside_floor(bench, *workloads(bench))
    bench.record({"connections": bench.pick(CONNECTIONS, SHORT_CONNECTIONS), **summary}, runs)
