"""15 000 idle authenticated ws connections on one shard."""

import idle


def run(bench):
    idle.measure(bench, "ws")
