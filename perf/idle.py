"""Idle authenticated connections, one room each, on one shard: bytes and CPU per connection."""

import bench

# Keep-alives so far apart that none falls into a run: what is left is what idling itself costs.
SILENT = {"WS_PING_INTERVAL": "3600s", "WS_PONG_TIMEOUT": "7200s"}


def measure(run, scheme, **env):
    """Three fresh gateways with keep-alives as they come, and one without."""
    connections, seconds = run.pick(15_000, 1_000), run.pick(60, 5)
    options = ["-n", connections, "--seconds", seconds]

    def once(extra):
        with run.gateway(**env, **extra) as gateway:
            return run.load(gateway, "idle", *options, scheme=scheme)

    runs = [once({}) for _ in range(run.pick(3, 1))]
    silent = once(SILENT)

    def figure(name):
        return bench.spread([result["figures"][name] for result in runs])

    summary = {name: figure(name) for name in (
        "rss_bytes_per_connection", "pss_bytes_per_connection", "slab_bytes_per_connection_both_ends",
        "connect_cpu_us_per_connection", "connects_per_second", "cpu_percent")}
    summary["cpu_percent_without_keep_alives"] = silent["figures"]["cpu_percent"]
    run.record({"connections": connections, "seconds": seconds, **summary}, [*runs, silent])
