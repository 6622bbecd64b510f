"""One publisher to 10 000 wss connections in one room on one shard, beside the plain send loop and AES-128-GCM alone.

The goal for each message is the floor's cost and 1.2 times that of sealing the same bytes: W1 one message in a record, W16
sixteen. `one_key` seals with the same key again and again, all of it in the nearest cache: the least that sealing can cost.
`key_each` takes the keys of as many receivers in turn, as a fan-out must. The floor sends 22 bytes less per record.
"""

import host
from bench import CPU, PARTS, Workload, beside_floor, ratios, spread, verdict

CONNECTIONS, SHORT_CONNECTIONS = 10_000, 500
SEALS_ALLOWED = 1.2
KEYS = ("one_key", "key_each")


def connections(bench):
    return host.fit_one_shard(bench.pick(CONNECTIONS, SHORT_CONNECTIONS))


def workloads(bench):
    def workload(window):
        options = ["-n", connections(bench), "--window", window, "--bursts", bench.pick(30, 10), "--warm-up", 3]
        env = {"TLS_SELF_SIGNED": "true", "HTTPS_PORT": "0"}
        return Workload(f"W{window}", "fanout", options, CPU, env=env, scheme="wss")

    return [workload(1), workload(16)]


def run(bench):
    count = connections(bench)
    summary, repetitions = {"connections": count}, []
    for window, workload in zip((1, 16), workloads(bench)):
        def seals(window=window):
            keys = {"one_key": 1, "key_each": count}
            return {name: bench.alone("seal", "--window", window, "--keys", keys[name]) for name in KEYS}

        summary[workload.name], runs = beside_floor(bench, workload, alone=seals)
        judge(summary[workload.name], runs)
        repetitions.append({"workload": workload.name, "rounds": runs})
    bench.record(summary, repetitions)


def judge(summary, runs):
    """Adds what the gateway costs above the floor, in seals, and whether that is within the goal."""
    sealed = {name: [played["alone"][name]["ns"]["message"] for played in runs] for name in KEYS}
    summary["seal"] = {
        "record_bytes": runs[0]["alone"]["one_key"]["sizes"]["record_bytes"],
        "ns_per_message": {name: spread([round(ns, 1) for ns in series]) for name, series in sealed.items()},
    }
    for title, figure in PARTS.items():
        gateway, floor = ([figure(played[name]) * 1000 for played in runs] for name in ("gateway", "floor"))
        for name, series in sealed.items():
            above = [round((of_gateway - of_floor) / seal, 2) for of_gateway, of_floor, seal in zip(gateway, floor, series)]
            goals = [of_floor + SEALS_ALLOWED * seal for of_floor, seal in zip(floor, series)]
            ratio = ratios(gateway, goals)
            summary[title][name] = {
                "seals_above_floor": spread(above),
                "ratio_to_goal": ratio,
                "goal": verdict(ratio, summary[title]["a_a_ratio"]),
            }
