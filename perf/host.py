"""How many connections of one process this host can hold, and how many shards or threads that takes."""

import pathlib
import re
import resource
import subprocess
import sys

# More than one in any case: they are what this is about.
SHARDS_MIN, SHARDS_MAX = 2, 64
# Descriptors of a shard's table that are not connections, and those per shard (src/cli/host.rs).
RESERVED, RESERVED_PER_SHARD = 60, 4
# What one connection takes of the host: both ends' kernel records, the gateway's and the load's own; and buffers.
HOST_BYTES_PER_CONNECTION, BUFFER_BYTES_PER_CONNECTION = 20 << 10, 4 << 10
MEMORY_SPARE_BYTES = 1 << 30
# usher-load: --source-addresses times the ports that it uses of each.
PORTS = 8 * 50_000


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
        print(f"{bench.scenario}: {most} connections instead of {wanted}; this host allows no more: {reason}", file=sys.stderr)
    if most < 1:
        raise SystemExit(f"{bench.scenario}: no room for a single connection")
    return shards, min(most, wanted)


def fit_one_shard(wanted):
    """How many of the wanted connections one descriptor table can hold."""
    return min(wanted, room(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1))


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
    told = subprocess.run([bench.options.usher, "check"], env=env, cwd=pathlib.Path(__file__).parents[1],
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
