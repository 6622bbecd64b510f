"""Idle authenticated connections, one room each, on one shard: bytes and CPU per connection."""

import bench

# Keep-alives so far apart that none falls into a run: what is left is what idling itself costs.
SILENT = {"WS_PING_INTERVAL": "3600s", "WS_PONG_TIMEOUT": "7200s"}
FIGURES = ("rss_bytes_per_connection", "pss_bytes_per_connection", "slab_bytes_per_connection_both_ends",
           "connect_cpu_us_per_connection", "connects_per_second", "cpu_percent")
CONNECTIONS, SHORT_CONNECTIONS = 15_000, 1_000
SECONDS, SHORT_SECONDS = 60, 5


def workload(run, scheme, **env):
    """Connect, join, hold."""
    options = ["-n", run.pick(CONNECTIONS, SHORT_CONNECTIONS), "--seconds", run.pick(SECONDS, SHORT_SECONDS)]
    compared = ("rss_bytes_per_connection", "connect_cpu_us_per_connection")
    figures = {name: lambda result, name=name: result["figures"][name] for name in compared}
    return bench.Workload(scheme, "idle", options, figures, env=env, scheme=scheme, fresh=True)


def measure(run, idle):
    """Three fresh gateways with keep-alives as they come, and one without."""
    def once(extra):
        with run.gateway(**idle.env, **extra) as gateway:
            return idle.run(run, gateway)

    runs = [once({}) for _ in range(run.pick(3, 1))]
    silent = once(SILENT)
    summary = {name: bench.spread([result["figures"][name] for result in runs]) for name in FIGURES}
    summary["cpu_percent_without_keep_alives"] = silent["figures"]["cpu_percent"]
    sizes = {"connections": run.pick(CONNECTIONS, SHORT_CONNECTIONS), "seconds": run.pick(SECONDS, SHORT_SECONDS)}
    run.record({**sizes, **summary}, [*runs, silent])
