"""15 000 idle authenticated wss connections on one shard; TLS 1.3, full handshakes, a development certificate."""

import idle


def run(bench):
    idle.measure(bench, "wss", TLS_SELF_SIGNED="true", HTTPS_PORT="0")
