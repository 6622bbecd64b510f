"""15 000 idle authenticated wss connections on one shard; TLS 1.3, full handshakes, a development certificate."""

import idle


def workloads(bench):
    return [idle.workload(bench, "wss", TLS_SELF_SIGNED="true", HTTPS_PORT="0")]


def run(bench):
    idle.measure(bench, *workloads(bench))
