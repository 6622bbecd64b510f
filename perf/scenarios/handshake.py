"""Handshakes beside axum's: ws beside the floor's and a token's check too, wss in full and with tickets beside bare key operations.

A handshake is everything from accept to close: TLS, request, token, 101, `system:connected` (the floor sends none), and the
client's end. All clients of a run come 64 at a time, are greeted, and go together. `full_tls` is what wss takes more than ws.
axum's (`usher-axum`) is the same by axum, tokio and rustls on one thread: same TLS rules, check of tokens and welcome.
"""

from bench import Failed, Workload, beside_floor, ratios, shard_seconds, spread, verdict

CONNECTIONS, SHORT_CONNECTIONS = 10_000, 500
WSS_CONNECTIONS, SHORT_WSS_CONNECTIONS = 5_000, 300
FLOORS_ALLOWED, FULLS_ALLOWED, AXUMS_ALLOWED = 1.3, 0.5, 1.0
UNDER_WAY = 64
TLS = {"TLS_SELF_SIGNED": "true", "HTTPS_PORT": "0"}


def process_us(result):
    """CPU µs per connection, from before the first came until after the last had gone: all threads, to the nanosecond."""
    return round(sum(seconds for _, seconds in result["afterwards"]["thread_cpu_seconds"]) * 1e6 / result["connections"], 3)


def shard_us(result):
    """The same of the threads that serve connections."""
    return round(shard_seconds(result["afterwards"]) * 1e6 / result["connections"], 3)


# The runs of a TLS round whose CPU is shown as it is.
SERIES = ("ws", "full", "axum_full", "resumed", "axum_resumed", "again")
HANDSHAKE = {"process": process_us, "shard_thread": shard_us}
FIGURES = {"process_cpu_us_per_handshake": process_us, "shard_cpu_us_per_handshake": shard_us}


def workload(name, count, scheme, *options, **env):
    """Come, be greeted, go."""
    asked = ["-n", count, "--seconds", 0, "--room", "", "--handshakes", UNDER_WAY, *options]
    return Workload(name, "idle", asked, FIGURES, env=env, scheme=scheme)


def workloads(bench):
    count, wss_count = bench.pick(CONNECTIONS, SHORT_CONNECTIONS), bench.pick(WSS_CONNECTIONS, SHORT_WSS_CONNECTIONS)
    return [
        workload("ws", count, "ws"),
        workload("full", wss_count, "wss", **TLS),
        workload("resumed", wss_count, "wss", "--resume", **TLS),
    ]


def run(bench):
    ws, full, resumed = workloads(bench)
    summary = {"ws": {"connections": bench.pick(CONNECTIONS, SHORT_CONNECTIONS)}}
    measured, plain = beside_floor(bench, ws, unit="handshake", parts=HANDSHAKE, alone=lambda: bench.alone("keyop"), axum=True)
    summary["ws"].update(measured)
    judge_plain(summary["ws"], plain)
    rounds = []
    with bench.gateway(**TLS) as gateway, bench.gateway(SHARD_CORES="0,0", **TLS) as two_shards, bench.axum() as axum:
        for _ in range(bench.rounds(5)):
            rounds.append({
                "ws": ws.run(bench, gateway),
                "full": tls_run(bench, gateway, full),
                "axum_full": axum_run(bench, axum, full),
                "resumed": tls_run(bench, gateway, resumed),
                "axum_resumed": axum_run(bench, axum, resumed),
                "again": tls_run(bench, gateway, full),
                "two_shards": tls_run(bench, two_shards, resumed),
                "alone": bench.alone("keyop"),
            })
    summary["wss"] = {"connections": bench.pick(WSS_CONNECTIONS, SHORT_WSS_CONNECTIONS), **judge_tls(rounds)}
    bench.record(summary, [{"workload": "ws", "rounds": plain}, {"workload": "wss", "rounds": rounds}])


def judge_plain(summary, runs):
    """Adds the token's cost, and whether the gateway is within 1.3 times the floor and the token."""
    token = [microseconds(played, "jwt_hs256") for played in runs]
    summary["token_us"] = spread(token)
    for title, figure in HANDSHAKE.items():
        goals = [FLOORS_ALLOWED * figure(played["floor"]) + us for played, us in zip(runs, token)]
        ratio = ratios([figure(played["gateway"]) for played in runs], goals)
        summary[title] |= {"ratio_to_goal": ratio, "goal": verdict(ratio, summary[title]["a_a_ratio"])}


def tls_run(bench, gateway, asked):
    """A run whose handshakes both sides count alike; else its figures are void."""
    def counted():
        names = ("full", "resumed")
        return {name: gateway.metric(f'usher_tls_handshakes_total{{result="{name}"}}') for name in names}

    before = counted()
    result = asked.run(bench, gateway)
    seen, after = result["tls"], counted()
    if seen["full"] + seen["resumed"] != result["connections"] or any(after[name] - before[name] != seen[name] for name in after):
        raise Failed(f"{asked.name}: the clients counted {seen}, the gateway {before} and then {after}")
    return result


def axum_run(bench, axum, asked):
    """A run of axum, which counts nothing: void unless its clients resumed whenever they could, and could if they should."""
    result = asked.run(bench, axum)
    seen, resuming = result["tls"], "--resume" in asked.options
    counted = seen["full"] + seen["resumed"] == result["connections"]
    if not counted or seen["resumed"] != seen["tickets_offered"] or resuming != (seen["resumed"] > 0):
        raise Failed(f"axum, {asked.name}: the clients counted {seen}")
    return result


def judge_tls(rounds):
    """Figures of full and of resumed handshakes, beside each other and beside what they cannot do without."""
    def series(name, figure=process_us):
        return [figure(played[name]) for played in rounds]

    bare = {name: [microseconds(played, name) for played in rounds] for name in rounds[0]["alone"]["ns"]}
    # What the server of a full handshake computes with keys: one signature, one exchange.
    keys = [sign + exchange for sign, exchange in zip(bare["p256_sign"], bare["x25519"])]
    summary = {"bare_us": {name: spread(values) for name, values in bare.items()}}
    for title, figure in HANDSHAKE.items():
        summary[title] = {
            "cpu_us_per_handshake": {name: spread(series(name, figure)) for name in SERIES},
        }
    full, again = series("full"), series("again")
    resumed = [resumed_us(played["resumed"], us) for played, us in zip(rounds, full)]
    full_tls = [wss - ws for wss, ws in zip(full, series("ws"))]
    a_a_ratio = ratios(again, full)
    goal = verdict(ratios(resumed, [FULLS_ALLOWED * us for us in full]), a_a_ratio)
    return summary | {
        "full_per_second_and_core": spread([round(1e6 / us) for us in full]),
        "bare_keys_per_second_and_core": spread([round(1e6 / us) for us in keys]),
        "bare_rustls_per_second_and_core": spread([round(1e6 / us) for us in bare["rustls_full"]]),
        "full_a_a_ratio": a_a_ratio,
        "full_tls_us": spread([round(us, 3) for us in full_tls]),
        "full_tls_to_bare_keys": ratios(full_tls, keys),
        "full_tls_to_bare_rustls": ratios(full_tls, bare["rustls_full"]),
        "resumed_us": spread(resumed),
        "resumed_to_full": ratios(resumed, full),
        "bare_rustls_resumed_to_full": ratios(bare["rustls_resumed"], bare["rustls_full"]),
        "resumed_goal": goal,
        "beside_axum": {title: judge_axum(rounds, figure) for title, figure in HANDSHAKE.items()},
        "two_shards": any_shard(rounds),
    }


def judge_axum(rounds, figure):
    """What the gateway takes of what axum takes, and whether that is no more."""
    def series(name):
        return [figure(played[name]) for played in rounds]

    def resumed(name, fulls):
        return [resumed_us(played[name], us, figure) for played, us in zip(rounds, fulls)]

    full, of_axum, a_a_ratio = series("full"), series("axum_full"), ratios(series("again"), series("full"))
    pairs = {"full": (full, of_axum), "resumed": (resumed("resumed", full), resumed("axum_resumed", of_axum))}
    judged = {}
    for name, (ours, theirs) in pairs.items():
        goal = verdict(ratios(ours, [AXUMS_ALLOWED * us for us in theirs]), a_a_ratio)
        judged[name] = {"axum_us": spread(theirs), "ratio_to_axum": ratios(ours, theirs), "a_a_ratio": a_a_ratio, "goal": goal}
    return judged


def resumed_us(result, full_us, figure=process_us):
    """CPU µs of a resumed handshake in a run whose first clients had no ticket yet."""
    counts = result["tls"]
    return round((figure(result) * result["connections"] - full_us * counts["full"]) / max(counts["resumed"], 1), 3)


def any_shard(rounds):
    """Tickets of two shards: how many were taken, and how many must have come to the shard that had not made them."""
    runs = [played["two_shards"] for played in rounds]
    offered, taken = (sum(result["tls"][name] for result in runs) for name in ("tickets_offered", "resumed"))
    return {
        "tickets_offered": offered,
        "resumed": taken,
        "resumed_share": round(taken / max(offered, 1), 4),
        # The kernel spreads connections blindly: a share s of one shard means 2 s (1 - s) tickets of the other.
        "of_the_other_shard_share": spread([round(2 * share * (1 - share), 3) for share in map(first_share, runs)]),
    }


def first_share(result):
    """How much of the handshakes' work the first of two shards did."""
    shards = [seconds for name, seconds in sorted(result["afterwards"]["thread_cpu_seconds"]) if name.startswith("usher-shard")]
    return shards[0] / sum(shards) if len(shards) == 2 else 0.0


def microseconds(played, operation):
    return round(played["alone"]["ns"][operation] / 1000, 3)
