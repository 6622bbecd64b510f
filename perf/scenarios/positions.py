"""`PushQueuePositions`: distinct positions for 10 000 connected users, as many as one control core accepts.

Control has core 1 for itself; the shard and the load share core 0, so that either may be what a run waits for: `control_busy`
says how far control was, and what a core of it takes when nobody else is waited for follows from its time per position.
Every position is of another user than the one before and newer than all before for that user; a run is void if a client
gets an older position after a newer one, or not the newest in the end. Clients get one a second: `QUEUE_UPDATE_INTERVAL`.
"""

from bench import SERVER_CORE, Failed, spread

USERS, SHORT_USERS = 10_000, 200
# Positions in a message, and streams: as README advises, by several callers, and one by one.
SHAPES = {"batches": (512, 1), "four_streams": (512, 4), "one_each": (1, 1)}


def run(bench):
    users, seconds = bench.pick(USERS, SHORT_USERS), bench.pick(8, 2)
    runs = [{name: push(bench, users, seconds, *shape) for name, shape in SHAPES.items()} for _ in range(bench.rounds(5))]
    summary = {"users": users, "rounds": len(runs)}
    for name, (batch, streams) in SHAPES.items():
        summary[name] = {"positions_in_a_message": batch, "streams": streams,
                         **summed([figures(played[name]) for played in runs])}
    bench.record(summary, runs)


def push(bench, users, seconds, batch, streams):
    """One run of positions, one to each user in turn, on a gateway that knows no last values of other runs."""
    options = ["-n", users, "--seconds", seconds, "--batch", batch, "--streams", streams]
    with bench.gateway() as gateway:
        return bench.load(gateway, "positions", *options, core=SERVER_CORE)


def figures(result):
    """What one run says."""
    found, usage = result["figures"], result["measured"]
    control = dict(usage["thread_cpu_seconds"]).get("usher-control")
    if not control:
        raise Failed(f"no control thread in {usage['thread_cpu_seconds']}")
    if found["positions_refused"]:
        raise Failed(f"{found['positions_refused']:.0f} positions were refused")
    us = found["control_us_per_position"]
    return {
        "accepted_per_second": round(found["positions_accepted_per_second"]),
        "control_us_per_position": round(us, 3),
        "control_busy": round(control / result["seconds"], 3),
        "accepted_per_second_of_a_control_core": round(1e6 / us),
        "shard_us_per_position": round(found["shard_us_per_position"], 3),
        "received_of_accepted": round(found["positions_received"] / found["positions_accepted"], 4),
        "received_per_client_and_second": round(found["positions_received"] / result["connections"] / result["seconds"], 3),
    }


def summed(rounds):
    """The spread of each figure."""
    return {name: spread([figures[name] for figures in rounds]) for name in rounds[0]}
