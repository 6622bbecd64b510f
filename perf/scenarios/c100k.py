"""100 000 connections of one process, held: a message to all every second, a thousand to single users beside it.

What the host does not allow makes it smaller, with the reason on stderr.
"""

import pathlib
import re
import resource
import subprocess
import sys
import time

WANTED, HOLD_SECONDS = 100_000, 300
SHORT_WANTED, SHORT_HOLD_SECONDS = 5_000, 8
CLOSE_SECONDS_MAX = 30
BROADCASTS_PER_SECOND, NOTIFICATIONS_PER_SECOND = 1, 1_000
# More than one in any case: they are what this is about.
SHARDS_MIN, SHARDS_MAX = 2, 64
# Descriptors of a shard's table that are not connections, and those per shard (src/cli/host.rs).
RESERVED, RESERVED_PER_SHARD = 60, 4
# What one connection takes of the host: both ends' kernel records, the gateway's and the load's own; and buffers.
HOST_BYTES_PER_CONNECTION, BUFFER_BYTES_PER_CONNECTION = 20 << 10, 4 << 10
MEMORY_SPARE_BYTES = 1 << 30
# usher-load: --source-addresses times the ports that it uses of each.
PORTS = 8 * 50_000


def run(bench):
    wanted = bench.pick(WANTED, SHORT_WANTED)
    seconds = bench.options.seconds or bench.pick(HOLD_SECONDS, SHORT_HOLD_SECONDS)
    shards, connections = fit(bench, wanted)
    options = ["-n", connections, "--seconds", seconds, "--rate", BROADCASTS_PER_SECOND, "--user-rate",
               NOTIFICATIONS_PER_SECOND, "--type", "notification:new", "--timeout", 900 + 4 * seconds]
    with bench.gateway(SHARD_CORES=",".join(["0"] * shards)) as gateway:
        before = open_files(gateway)
        result = bench.load(gateway, "hold", *options)
        stored = stored_bytes(gateway)
        left = left_open(gateway, before)
    # Kept up: each message had reached nearly everybody before the next was due, the last one too.
    figures, measured = result["figures"], result["measured"]
    room, users = result["latency_us"]["room"], result["latency_us"]["users"]
    summary = {
        "connections": connections,
        "wanted": wanted,
        "shards": shards,
        "seconds": round(result["seconds"], 1),
        # The run has failed otherwise.
        "lost_repeated_or_reordered": 0,
        "deliveries": result["deliveries"],
        "connects_per_second": figures["connects_per_second"],
        "rss_bytes_per_connection": figures["rss_bytes_per_connection"],
        "slab_bytes_per_connection_both_ends": figures["slab_bytes_per_connection_both_ends"],
        "tcp_buffer_bytes_per_connection_both_ends": figures["tcp_buffer_bytes_per_connection_both_ends"],
        "rss_grown_bytes_while_held": measured["rss_grown_bytes"],
        # Of those, events kept for resume: a thousand notifications a second, for ten minutes each.
        "stored_bytes": stored,
        "descriptors_left": left,
        "cpu_percent": figures["cpu_percent"],
        "cpu_us_per_delivery": figures["cpu_us_per_delivery"],
        "to_all": {"per_second": round(figures["room_messages_per_second"], 3), **percentiles(room)},
        "to_one": {"per_second": round(figures["user_messages_per_second"], 1), **percentiles(users)},
        "kept_up": result["seconds"] < seconds + 1 and room["p99"] < 1e6 / BROADCASTS_PER_SECOND,
    }
    if not summary["kept_up"]:
        say(f"saturated: {summary['to_all']['per_second']} of {BROADCASTS_PER_SECOND} messages to all per second, "
            f"p99 {room['p99'] / 1000:.0f} ms; nothing was lost")
    bench.record(summary, [result])


def open_files(gateway):
    """Descriptors of all tables."""
    return sum(gateway.footprint()["descriptors"].values())


def stored_bytes(gateway):
    """Events that are kept for resume."""
    return int(re.search(r"^usher_stream_bytes (\d+)$", gateway.get("/metrics"), re.MULTILINE).group(1))


def left_open(gateway, before):
    """Descriptors that are still open when a busy gateway has had time to close them."""
    deadline = time.monotonic() + CLOSE_SECONDS_MAX
    while (left := open_files(gateway) - before) > 0 and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def percentiles(us):
    """Of a latency, in milliseconds."""
    return {f"{name}_ms": round(us[name] / 1000, 2) for name in ("p50", "p99", "p999", "max")}


def fit(bench, wanted):
    """Shards, and how many of the wanted connections this host can hold."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    counts = range(SHARDS_MIN, SHARDS_MAX + 1)
    shards = next((n for n in counts if share(wanted, n) <= room(files, n)), None)
    shards = shards or max(counts, key=lambda n: room(files, n) * n)
    descriptors, total = checked(bench, shards)
    allowed = {
        # Below the limit a shard of several must not be the one that the hash fills first.
        f"descriptors: {descriptors}": total if total >= wanted else total * 97 // 100,
        "memory": (meminfo("MemAvailable") - MEMORY_SPARE_BYTES) // HOST_BYTES_PER_CONNECTION,
        "net.ipv4.tcp_mem": numbers("/proc/sys/net/ipv4/tcp_mem")[2] * resource.getpagesize()
                            // BUFFER_BYTES_PER_CONNECTION,
        "fs.file-max": (numbers("/proc/sys/fs/file-max")[0] - numbers("/proc/sys/fs/file-nr")[0]) // 2,
        "ports of the load's source addresses": PORTS,
    }
    reason, most = min(allowed.items(), key=lambda item: item[1])
    if most < wanted:
        say(f"{most} connections instead of {wanted}; this host allows no more: {reason}")
    if most < 1:
        raise SystemExit("c100k: no room for a single connection")
    return shards, min(most, wanted)


def room(files, shards):
    """Connections that one table takes."""
    return max(0, files - RESERVED - RESERVED_PER_SHARD * shards)


def share(connections, shards):
    """Connections of the fullest shard: the kernel spreads them by a hash."""
    mean = -(-connections // shards)
    return mean if shards == 1 else mean + 4 * int(mean**0.5)


def checked(bench, shards):
    """What `usher check` says of descriptors: whether tables can be private is its to find out."""
    env = {"SHARDS": str(shards), "PATH": "/usr/bin:/bin"}
    told = subprocess.run([bench.options.usher, "check"], env=env, cwd=pathlib.Path(__file__).parents[2],
                          stdout=subprocess.PIPE, text=True, check=False).stdout
    line = re.search(r"^\s*descriptors\s+\S+\s+(.*?): (\d+) connections", told, re.MULTILINE)
    return (line.group(1), int(line.group(2))) if line else ("unlimited", sys.maxsize)


def meminfo(name):
    """Bytes of a line of /proc/meminfo."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE).group(1)) << 10


def numbers(path):
    """The numbers of a /proc file."""
    return [int(word) for word in pathlib.Path(path).read_text().split()]


def say(line):
    """For whoever waits."""
    print(f"c100k: {line}", file=sys.stderr)
