"""Notifications through Redis to distinct connected users: what one control core takes, stored and not, and what it adds to
Redis's own latency.

Not stored: `user:<id>:<event>`. Stored: `user_noti:<user>`, Critical, appended to the user's stream in Redis by one script
each. Redis keeps nothing on disk here. It shares core 0 with the shard; control shares core 1 with the load, so that what a core of
its own would take follows from the control thread's time per message, which is the first figure.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time

from bench import SERVER_CORE, Failed, spread

USERS, SHORT_USERS = 2_000, 100
CHANNELS = {"unstored": "user:{user}:load", "stored": "user_noti:{user}"}
START_SECONDS_MAX = 10


def run(bench):
    users, window = bench.pick(USERS, SHORT_USERS), bench.pick(1_000, 100)
    bursts = bench.pick({"unstored": 300, "stored": 100}, {"unstored": 5, "stored": 5})
    rates, seconds = bench.pick({"unstored": 10_000, "stored": 2_000}, {"unstored": 500, "stored": 200}), bench.pick(8, 2)
    runs = []
    with redis() as address, bench.gateway(REDIS_URL=f"redis://{address}") as gateway:
        for _ in range(bench.pick(5, 1)):
            runs.append({
                name: {
                    "full": load(bench, gateway, address, name, users, "--window", window, "--bursts", bursts[name]),
                    "steady": load(bench, gateway, address, name, users, "--rate", rates[name], "--seconds", seconds),
                }
                for name in CHANNELS
            })
    summary = {"users": users}
    for name in CHANNELS:
        full = [played[name]["full"] for played in runs]
        control = [control_us(result) for result in full]
        summary[name] = {
            "control_us_per_message": spread(control),
            "messages_per_second_of_a_control_core": spread([round(1e6 / us) for us in control]),
            "messages_per_second_here": spread([round(result["messages"] / result["seconds"]) for result in full]),
            "steady_rate": rates[name],
        }
        for p in ("p50", "p99"):
            steady = [played[name]["steady"]["latency_us"] for played in runs]
            for who in ("delivery", "bare_subscriber"):
                summary[name][f"{who}_{p}_us"] = spread([latency[who][p] for latency in steady])
    bench.record(summary, runs)


def load(bench, gateway, address, name, users, *options):
    """One run of messages through Redis, one to each user in turn."""
    return bench.load(gateway, "unicast", "-n", users, "--redis", address, "--channel", CHANNELS[name], *options)


def control_us(result):
    """CPU of the control thread per message."""
    threads = dict(result["measured"]["thread_cpu_seconds"])
    if "usher-control" not in threads:
        raise Failed(f"no control thread among {sorted(threads)}")
    return round(threads["usher-control"] * 1e6 / result["messages"], 3)


@contextlib.contextmanager
def redis():
    """The address of a redis-server on a free port, on the server's core."""
    binary = shutil.which("redis-server")
    if not binary:
        raise Failed("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"],
            cwd=folder, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}))
        try:
            wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def wait_for(port):
    """Until somebody listens there."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise Failed(f"redis-server did not listen within {START_SECONDS_MAX} s")
