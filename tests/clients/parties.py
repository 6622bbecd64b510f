"""Who takes part in a test beside its own peers: the gateway, a service that calls it, and the report. Used by run and onsale."""

import json
import os
import subprocess
import sys

import expected
import install
from child import Child

WORK = install.ROOT / "target" / "clients"
USHER = os.environ.get("USHER") or install.ROOT / "target" / "debug" / "usher"
SECRET = "a secret of at least thirty-two bytes for this test"
START_TIMEOUT_S = 30
ANSWER_TIMEOUT_S = 10


class Report:
    """Counts, and says at once what is wrong."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, what, expected_value, actual):
        good = expected.agrees(expected_value, actual)
        self.passed += good
        self.failed += not good
        if not good:
            print(f"FAILED {what}\n  expected {readable(expected_value)}\n  got      {readable(actual)}", flush=True)
        return good


class Caller:
    """A service: one call at a time through reflection_caller.py."""

    def __init__(self, address):
        python = install.python_venv(WORK / "venv", install.PYTHON_PACKAGES)
        address = address.removeprefix("http://")
        script = install.ROOT / "tests" / "clients" / "reflection_caller.py"
        self.child = Child([python, script, address, "realtime.RealtimeService"], WORK / "grpc.log")
        self.count = 0
        self.methods = self._next(START_TIMEOUT_S).get("methods")

    def call(self, method, request):
        self.child.say(json.dumps({"method": method, "request": request}))
        return self._next()

    def _next(self, timeout_s=ANSWER_TIMEOUT_S):
        line = self.child.lines.at(self.count, timeout_s)
        self.count += 1
        return json.loads(line) if line is not None else {"silence": self.child.tail()}


def start_gateway(name, settings):
    """The gateway on free ports, and what its banner says: ws, wss, grpc, admin."""
    if not os.access(USHER, os.X_OK):
        subprocess.run(["cargo", "build", "--bin", "usher"], cwd=install.ROOT, check=True)
    environment = {
        "PATH": os.environ["PATH"], "JWT_SECRET": SECRET, "HOST": "127.0.0.1", "HTTP_PORT": "0", "GRPC_PORT": "0",
        "METRICS_PORT": "0", **settings,
    }
    gateway = Child([USHER], WORK / f"{name}.log", environment)
    addresses = {}
    for listener in ("ws", "wss", "grpc", "admin"):
        def pick(line, listener=listener):
            words = line.split()
            return words[1] if words[:1] == [listener] else None
        addresses[listener] = gateway.lines.first(pick, START_TIMEOUT_S)
        if addresses[listener] is None:
            gateway.stop()
            sys.exit(f"the gateway did not say its {listener} address\n{gateway.tail()}")
    return gateway, {name: address for name, address in addresses.items() if "://" in address}


def token_for(user):
    """As `usher token` makes it."""
    return subprocess.run(
        [USHER, "token", "--user", user], env={**os.environ, "JWT_SECRET": SECRET}, capture_output=True, text=True, check=True,
    ).stdout.split()[-1]


def pass_key():
    """A private key as OpenSSL makes it."""
    path = WORK / "pass.pem"
    command = [install.command("openssl", "openssl"), "genpkey", "-algorithm", "ed25519", "-out", path]
    subprocess.run(command, capture_output=True, check=True)
    return path


def readable(value):
    return json.dumps(value, default=lambda judge: "<as judged by expected.py>", ensure_ascii=False)
