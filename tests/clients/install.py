"""Brings the tools that the peers need into `target/`, once, and says so. Used by clients/run and conformance/autobahn.

    install.py FOLDER PACKAGE==VERSION…    a virtual environment for ./test
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# playwright-core: the newest that runs on the Node.js of Debian 12.
NODE_PACKAGES = {"wscat": "6.1.0", "playwright-core": "1.60.0"}
PYTHON_PACKAGES = ["grpcio==1.85.1", "grpcio-reflection==1.85.1", "protobuf==7.36.2"]
# What a booking service installs to check passes offline.
PASS_PACKAGES = ["PyJWT==2.15.1", "cryptography==50.0.2"]


def command(name, package):
    """The path of a command, from Debian's package of that name when it is missing."""
    if not shutil.which(name):
        apt(package)
    return shutil.which(name) or sys.exit(f"{name} is missing: install {package}")


def apt(*packages):
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        sys.exit(f"missing: {' '.join(packages)}. Install them, or run this as root on Debian.")
    say(f"apt-get install {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet(["apt-get", "update", "-qq"], environment)
    quiet(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], environment)


def node_modules(folder, wanted):
    """npm packages, `{name: version}`, in `folder`/node_modules."""
    manifests = {name: folder / "node_modules" / name / "package.json" for name in wanted}
    if all(path.exists() and json.loads(path.read_text())["version"] == wanted[name] for name, path in manifests.items()):
        return
    npm = command("npm", "npm")
    packages = [f"{name}@{version}" for name, version in wanted.items()]
    say(f"npm install {' '.join(packages)} (in {folder.relative_to(ROOT)})")
    folder.mkdir(parents=True, exist_ok=True)
    quiet([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, *packages])


def python_venv(folder, wanted):
    """The interpreter of a virtual environment in `folder` that has the packages `wanted`."""
    stamp, python = folder / "installed.txt", folder / "bin" / "python"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return python
    if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True).returncode != 0:
        apt("python3-venv")
    say(f"pip install {' '.join(wanted)} (in {folder.relative_to(ROOT)})")
    quiet([sys.executable, "-m", "venv", "--clear", folder])
    quiet([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted])
    stamp.write_text("\n".join(wanted))
    return python


def quiet(argv, environment=None):
    """Runs to the end; its output is shown only when it fails, and then all of this ends."""
    done = subprocess.run([str(part) for part in argv], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}")


def say(text):
    print(f"installing: {text}", flush=True)


if __name__ == "__main__":
    python_venv(ROOT / sys.argv[1], sys.argv[2:])
