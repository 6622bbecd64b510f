"""15 000 idle authenticated ws connections on one shard."""

import idle


def workloads(bench):
    return [idle.workload(bench, "ws")]


def run(bench):
    idle.measure(bench, *workloads(bench))
