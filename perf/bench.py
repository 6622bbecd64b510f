"""Servers, workloads, runs of usher-load, and result lines for the scenarios in perf/scenarios.

A scenario's `workloads` say what is run against a server; perf/run runs them against the floor, perf/compare against another
build. The server is pinned to core 0 (its control thread to core 1), the load to core 1. Every server is started on free
ports and ended by its process id.
"""

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import pathlib
import platform
import re
import select
import statistics
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "perf" / "scenarios"
RESULTS = ROOT / "perf" / "results"
SECRET = "a-secret-for-measurements-only-0123456789"
SERVER_CORE, LOAD_CORE = 0, 1
START_SECONDS_MAX, STOP_SECONDS_MAX = 60, 60

# Who of those that share a core has it: whenever it wants, or while nobody else wants it (options of chrt).
FIRST, LAST = ("--fifo", "1"), ("--idle", "0")

GATEWAY = {
    "HTTP_PORT": "0",
    "GRPC_PORT": "0",
    "METRICS_PORT": "0",
    "HOST": "127.0.0.1",
    "JWT_SECRET": SECRET,
    "SHARD_CORES": str(SERVER_CORE),
    "CONTROL_CORE": str(LOAD_CORE),
    "RATE_LIMIT_MAX_CONNECTIONS": "0",
    "LOG_LEVEL": "warn",
}


class Failed(Exception):
    """A run whose figures are void."""


class Server:
    """A running gateway, floor or axum, and the addresses that it printed."""

    def __init__(self, name, process, banner):
        self.name, self.process, self.pid, self.banner = name, process, process.pid, banner

    def address(self, kind):
        """What the banner says behind `kind`."""
        match = re.search(rf"^\s*{kind}\s+(\S+)", self.banner, re.MULTILINE)
        if not match:
            raise Failed(f"{self.name} printed no `{kind}` address:\n{self.banner}")
        return match.group(1)

    def get(self, path):
        """The body of an admin page."""
        with urllib.request.urlopen(self.address("admin").rstrip("/") + path, timeout=10) as answer:
            return answer.read().decode()

    def metric(self, series):
        """One sample of the metrics."""
        return sample(self.get("/metrics"), series)

    def target(self, scheme="ws"):
        """The options of usher-load that point at this server. The floor knows no TLS."""
        if self.name == "floor":
            return ["--url", self.address("ws"), "--server-pid", str(self.pid), "--floor", self.address("floor")]
        options = ["--url", self.address(scheme), "--server-pid", str(self.pid)]
        if self.name == "axum":
            return [*options, "--target", self.name]
        return options + ["--grpc", self.address("grpc").removeprefix("http://")]

    def footprint(self):
        """Resident bytes, and open descriptors of each table by its first thread: threads may share one or not."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024
        tables = {}
        for task in sorted(pathlib.Path(f"/proc/{self.pid}/task").iterdir(), key=lambda task: int(task.name)):
            tables.setdefault(open_files(task), task.name)
        return {"rss_bytes": resident, "descriptors": {task: len(files) for files, task in tables.items()}}


@dataclasses.dataclass
class Workload:
    """What one run of usher-load does to a server, and which figures of its result count.

    `figures`: name → result → number, smaller is better. `fresh`: every run needs a server of its own, since the figures are
    about what connections leave in it.
    """

    name: str
    kind: str
    options: list
    figures: dict
    env: dict = dataclasses.field(default_factory=dict)
    scheme: str = "ws"
    floor: tuple = ()
    fresh: bool = False

    def run(self, bench, server):
        """One run against a server that was started with `env`."""
        return bench.load(server, self.kind, *self.options, scheme=self.scheme)


class Bench:
    """One scenario's run: what it starts, and where its results go."""

    def __init__(self, scenario, options):
        self.scenario, self.options, self.short = scenario, options, options.short

    def pick(self, full, short):
        """`short` in a smoke run, else `full`."""
        return short if self.short else full

    def rounds(self, full):
        """How often a scenario that is interleaved plays: `--rounds`, once in a smoke run, or `full`."""
        return getattr(self.options, "rounds", None) or self.pick(full, 1)

    @contextlib.contextmanager
    def gateway(self, usher=None, under=(), **env):
        """A gateway with these settings beside the usual ones.

        `usher`: another binary than the option's; `under`: the command of a tool that runs it.
        """
        command = [*under, usher or self.options.usher]
        with self._serve("gateway", command, "grpc", {**GATEWAY, **env}) as server:
            yield server

    @contextlib.contextmanager
    def floor(self, *arguments):
        """The bare send loop."""
        command = [self.options.load, "floor", "--core", str(SERVER_CORE), *map(str, arguments)]
        with self._serve("floor", command, "floor", {}) as server:
            yield server

    @contextlib.contextmanager
    def axum(self):
        """The greeting of a newcomer by axum, tokio and rustls, over ws and wss."""
        command = [self.options.axum, "--core", str(SERVER_CORE)]
        with self._serve("axum", command, "wss", {"JWT_SECRET": SECRET}) as server:
            yield server

    @contextlib.contextmanager
    def _serve(self, name, command, last_line, env):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        try:
            yield Server(name, process, read_banner(process, last_line))
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

    def alone(self, operation, *options):
        """What cryptography costs on the server's core without a server (`usher-load seal` or `keyop`)."""
        command = [self.options.load, operation, "--json", "--core", str(SERVER_CORE), *map(str, options)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)}: ended with {done.returncode}")
        return json.loads(done.stdout)

    def load(self, server, scenario, *options, **how):
        """Runs usher-load as `loading` does; its result, which is void unless everything that it checked held."""
        with self.loading(server, scenario, *options, **how) as result:
            return result()

    @contextlib.contextmanager
    def loading(self, server, scenario, *options, scheme="ws", anonymous=False, turn=(), core=LOAD_CORE):
        """usher-load while something else happens; yields what waits for its result. `turn`: FIRST or LAST."""
        command = ["chrt", *turn] if turn else []
        command += [self.options.load, scenario, "--json", "--core", str(core)]
        command += [*server.target(scheme), *map(str, options)]
        if self.options.quiet:
            command.append("--quiet")
        env = {name: value for name, value in os.environ.items() if name != "JWT_SECRET"}
        if not anonymous:
            env["JWT_SECRET"] = SECRET
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        try:
            yield lambda: self._result(command, process)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    @staticmethod
    def _result(command, process):
        text, _ = process.communicate()
        if not text.strip():
            raise Failed(f"{' '.join(command)}: ended with {process.returncode}")
        result = json.loads(text)
        if not result["ok"]:
            raise Failed(f"{' '.join(command)}: {result['fault_count']} faults: {result['faults']}")
        return result

    def record(self, summary, repetitions, command=None):
        """Appends one result line and shows the summary."""
        line = {
            "scenario": self.scenario,
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "kernel": platform.release(),
            "command": (command or "perf/run " + self.scenario) + (" --short" if self.short else ""),
            "short": self.short,
            "summary": summary,
            "repetitions": repetitions,
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / (self.scenario + (".short" if self.short else "") + ".jsonl")
        with path.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{self.scenario}: {json.dumps(summary, indent=2)}")


def may_go_first():
    """Whether this user may give a thread a real-time priority."""
    return subprocess.run(["chrt", *FIRST, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def put_first(server, thread):
    """Gives the server's threads of that name their core whenever they want it."""
    for task in pathlib.Path(f"/proc/{server.pid}/task").iterdir():
        if (task / "comm").read_text().strip() == thread:
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(1))


def open_files(task):
    """What is open in a thread's table, by number. Threads that share a table show the same."""
    files = set()
    for descriptor in (task / "fd").iterdir():
        # One may be closed while it is looked at.
        with contextlib.suppress(OSError):
            files.add((descriptor.name, os.readlink(descriptor)))
    return frozenset(files)


def read_banner(process, last_line):
    """What a server prints until the line that begins with `last_line`."""
    deadline, banner = time.monotonic() + START_SECONDS_MAX, ""
    while not re.search(rf"^\s*{last_line}\s+\S+.*\n", banner, re.MULTILINE):
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096).decode() if ready else ""
        if not chunk:
            raise Failed(f"no `{last_line}` line within {START_SECONDS_MAX} s; printed so far:\n{banner}")
        banner += chunk
    # Lines that follow in the same breath (`admin`).
    while select.select([process.stdout], [], [], 0.3)[0]:
        chunk = os.read(process.stdout.fileno(), 4096).decode()
        if not chunk:
            break
        banner += chunk
    return banner


def sample(metrics, series):
    """One sample of a page of metrics."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def spread(values):
    """Median, minimum and maximum."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": round(statistics.median(values), 3), "min": min(values), "max": max(values)}


def ratios(above, below):
    """The spread of the ratios of two series, pair by pair."""
    return spread([round(a / b, 3) for a, b in zip(above, below) if b])


def verdict(ratio_to_goal, a_a_ratio):
    """Whether a goal is met: what is above it by no more than the same binary is from itself could be noise."""
    if ratio_to_goal["median"] <= 1:
        return "met"
    noise = max(a_a_ratio["max"], 1 / a_a_ratio["min"])
    return "missed by less than the noise" if ratio_to_goal["median"] <= noise else "missed"


def process_us(result):
    """CPU µs per delivery of all the server's threads."""
    return result["figures"]["cpu_us_per_delivery"]


def shard_us(result):
    """CPU µs per delivery of the threads that serve connections."""
    return round(shard_seconds(result["measured"]) * 1e6 / result["deliveries"], 3)


def shard_seconds(usage):
    """CPU of the threads that serve connections; the floor has no others."""
    threads = usage["thread_cpu_seconds"]
    shards = [seconds for name, seconds in threads if name.startswith("usher-shard")]
    return sum(shards or [seconds for _, seconds in threads])


# What a summary tells apart of a result: all the server's threads, and those that serve connections.
PARTS = {"process": process_us, "shard_thread": shard_us}


def beside_floor(bench, workload, unit="delivery", parts=PARTS, alone=None, axum=False):
    """Interleaved rounds: gateway, floor, and the gateway again as the A/A pair; the summary and the rounds.

    `parts`: what is summed up, name → CPU µs per unit of a result. `alone`: run in each round as well, for what it returns.
    `axum`: it plays too.
    """
    rounds = bench.rounds(5)
    with contextlib.ExitStack() as stack:
        servers = {
            "gateway": stack.enter_context(bench.gateway(**workload.env)),
            "floor": stack.enter_context(bench.floor(*workload.floor)),
            **({"axum": stack.enter_context(bench.axum())} if axum else {}),
            "again": stack.enter_context(bench.gateway(**workload.env)),
        }
        runs = []
        for _ in range(rounds):
            run = {name: workload.run(bench, server) for name, server in servers.items()}
            runs.append({**run, "alone": alone()} if alone else run)

    def series(name, figure):
        return [figure(run[name]) for run in runs]

    summary = {"rounds": rounds}
    for title, figure in parts.items():
        summary[title] = {
            f"cpu_us_per_{unit}": {name: spread(series(name, figure)) for name in servers},
            "ratio_to_floor": ratios(series("gateway", figure), series("floor", figure)),
            "a_a_ratio": ratios(series("again", figure), series("gateway", figure)),
        }
        if axum:
            summary[title]["ratio_to_axum"] = ratios(series("gateway", figure), series("axum", figure))
    return summary, runs


# What a delivery costs: the figures of all workloads that deliver.
CPU = {"process_cpu_us_per_delivery": process_us, "shard_cpu_us_per_delivery": shard_us}


def scenario_names():
    """The scenarios there are."""
    return sorted(path.stem for path in SCENARIOS.glob("*.py"))


def scenario(name):
    """The module of a scenario."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), SCENARIOS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commit():
    """The commit that is checked out, with `+` when the tree differs from it in more than results."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", ".", ":!perf/results") else "")


def machine():
    """Processor, cores and memory."""
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mb": int(memory.group(1)) // 1024 if memory else None,
    }
