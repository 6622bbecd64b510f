"""Processes that a test starts, talks to in lines, and ends by their pid. Used by clients/run and conformance/autobahn."""

import pathlib
import subprocess
import threading
import time

STOP_TIMEOUT_S = 10


class Lines:
    """What arrived so far, in order; threads wait here for what they need instead of sleeping."""

    def __init__(self):
        self._items = []
        self._ended = False
        self._changed = threading.Condition()

    def append(self, item):
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def end(self):
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def first(self, pick, timeout_s):
        """The first `pick(item)` that is not None; None when the lines end, or time is over, without one."""
        deadline = time.monotonic() + timeout_s
        seen = 0
        with self._changed:
            while True:
                for item in self._items[seen:]:
                    if (found := pick(item)) is not None:
                        return found
                seen = len(self._items)
                left_s = deadline - time.monotonic()
                if self._ended or left_s <= 0:
                    return None
                self._changed.wait(left_s)

    def at(self, index, timeout_s):
        """The item at `index`; None when it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) > index or self._ended, timeout_s)
            return self._items[index] if len(self._items) > index else None

    def wait_for_end(self, timeout_s):
        """Whether nothing more can come."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout_s)


class Child:
    """One process: `lines` is its standard output, or what `hear` makes of each line of it (None: nothing to keep); its
    standard error goes to a file."""

    def __init__(self, argv, log, env=None, hear=None):
        self.lines = Lines()
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(part) for part in argv], env=env, text=True, encoding="utf-8", bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )
        threading.Thread(target=self._read, args=(hear,), daemon=True).start()

    def say(self, line):
        try:
            self._process.stdin.write(line + "\n")
        except OSError:
            pass  # it has ended: whoever waits for its answer finds that out, and says it better

    def stop(self):
        """The end of its input and SIGTERM, then SIGKILL for one that does not obey. Its exit code."""
        try:
            self._process.stdin.close()
        except OSError:
            pass  # it had ended before
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def tail(self):
        """The end of its standard error, for a report."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _read(self, hear):
        for line in self._process.stdout:
            line = line.rstrip("\n")
            if (item := hear(line) if hear else line) is not None:
                self.lines.append(item)
        self.lines.end()
