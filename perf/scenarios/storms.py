"""100 storms of 10 000 clients that connect and vanish, a third without a close: what stays behind."""

import json
import time

# Handshakes that nobody finishes end after 5 s; nothing may be left after 10.
QUIET_SECONDS = 11


def run(bench):
    clients, warm_up, storms = bench.pick(10_000, 500), bench.pick(10, 2), bench.pick(90, 3)
    with bench.gateway() as gateway:
        marks = [mark(gateway, "before")]
        runs = []
        for name, rounds in (("after the first", warm_up), ("after all", storms)):
            runs.append(bench.load(gateway, "storm", "-n", clients, "--rounds", rounds, "--timeout", 1800))
            time.sleep(QUIET_SECONDS)
            marks.append(mark(gateway, name))
    before, warm, after = marks
    left = {
        "clients": after["health"]["clients"],
        "rooms": after["health"]["rooms"],
        "descriptors": sum(after["descriptors"].values()) - sum(before["descriptors"].values()),
        "rss_bytes_since_the_first": after["rss_bytes"] - warm["rss_bytes"],
        "rss_bytes_since_the_start": after["rss_bytes"] - before["rss_bytes"],
    }
    made = sum(result["figures"]["connections_made"] for result in runs)
    bench.record({
        "storms": warm_up + storms,
        "clients": clients,
        "connections_made": made,
        "connect_ms_median_and_longest": runs[-1]["storm_connect_ms"],
        "left_behind": left,
        "clean": left["clients"] == 0 and left["rooms"] == 0 and left["descriptors"] == 0,
    }, [{"marks": marks, "runs": runs}])


def mark(gateway, name):
    """What the gateway and the kernel say at this moment."""
    health, stats = json.loads(gateway.get("/health")), json.loads(gateway.get("/stats"))
    return {"when": name, "health": health, "stats": stats, **gateway.footprint()}
