#!/usr/bin/env python3
"""What the measuring tools promise: the rule of noise.py against noise that is known, what scenarios make of results that are
known, and that reports repeat themselves."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import types
import unittest
from xml.etree import ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench  # noqa: E402
import host  # noqa: E402
import noise  # noqa: E402
import plot  # noqa: E402


def rounds(count, b_to_a, jitter, seed=7):
    """Rounds of two builds whose true ratio is known, under noise that falls on every run alike."""
    dice = random.Random(seed)

    def value(true):
        return true * dice.uniform(1 - jitter, 1 + jitter)

    return [{"A": value(5.0), "A'": value(5.0), "B": value(5.0 * b_to_a), "B'": value(5.0 * b_to_a)}
            for _ in range(count)]


class Verdicts(unittest.TestCase):
    def test_a_build_beside_itself_is_a_tie(self):
        for seed in range(30):
            self.assertEqual(noise.judge(rounds(10, 1.0, 0.10, seed))["verdict"], "tie", seed)

    def test_a_clear_difference_is_seen_in_its_direction(self):
        self.assertEqual(noise.judge(rounds(10, 0.85, 0.05))["verdict"], "B is better")
        self.assertEqual(noise.judge(rounds(10, 1.15, 0.05))["verdict"], "B is worse")

    def test_what_noise_could_do_is_a_tie(self):
        self.assertEqual(noise.judge(rounds(10, 0.98, 0.20))["verdict"], "tie")

    def test_five_rounds_never_suffice(self):
        self.assertEqual(noise.judge(rounds(5, 0.5, 0.01))["verdict"], "tie")
        self.assertEqual(noise.judge(rounds(6, 0.5, 0.01))["verdict"], "B is better")

    def test_a_process_that_differs_from_its_twin_widens_the_band(self):
        uneven = [{"A": 5.0, "A'": 6.0, "B": 5.8, "B'": 6.0} for _ in range(10)]
        self.assertEqual(noise.judge(uneven)["verdict"], "tie")

    def test_the_sign_test_counts_sides_and_leaves_out_ties(self):
        self.assertEqual(noise.sign_test([1.0, 1.0]), 1.0)
        self.assertEqual(noise.sign_test([1.1] * 5), 0.0625)
        self.assertEqual(noise.sign_test([0.9] * 6 + [1.0]), 0.03125)
        self.assertEqual(noise.sign_test([0.9, 1.1]), 1.0)


class Histograms(unittest.TestCase):
    def test_quantiles_are_of_what_came_between_two_readings(self):
        def page(*counts):
            bounds = ("0.001", "0.01", "+Inf")
            return "\n".join(f'name_bucket{{class="latest",le="{bound}"}} {count}' for bound, count in zip(bounds, counts))

        storm = bench.scenario("storm")
        before, after = (storm.buckets(text, "name") for text in (page(1_000, 1_000, 1_000), page(1_098, 1_100, 1_100)))
        self.assertEqual(storm.between(before, after), {"p50_us": 510.2, "p99_us": 5_500.0, "over_1_ms": 2.0})


def spread(median):
    return {"median": median, "min": median * 0.9, "max": median * 1.1}


def result(commit, ratio):
    """A line as bench.py writes it."""
    return {
        "scenario": "made-up", "time": "2026-01-01T00:00:00+00:00", "commit": commit, "kernel": "6.1", "command": "perf/run x",
        "machine": {"cpu": "<a&b>", "cores": 2, "memory_mb": 1024},
        "summary": {"connections": 10, "process": {"ratio_to_floor": spread(ratio), "a_a_ratio": spread(1.0)},
                    "memory": spread(1200), "nothing": None},
        "repetitions": [],
    }


class Report(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.perf = pathlib.Path(directory.name)
        (self.perf / "results").mkdir()
        self.keep(result("aaaa, before the change", 1.05), result("bbbb", 2.0))

    def keep(self, *results):
        path = self.perf / "results" / "made-up.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in results))

    def report(self, *arguments):
        command = [sys.executable, "-B", str(HERE / "report"), "--perf", str(self.perf), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).returncode

    def written(self):
        return {path.name: path.read_bytes() for path in self.perf.rglob("*") if path.suffix in (".md", ".svg")}

    def test_the_same_results_make_the_same_bytes(self):
        self.assertEqual(self.report(), 0)
        first = self.written()
        self.assertEqual(self.report(), 0)
        self.assertEqual(self.written(), first)
        self.assertEqual(set(first), {"report.md", "made-up.svg"})

    def test_a_check_sees_what_is_missing_changed_or_left_over(self):
        self.assertEqual(self.report("--check"), 1)
        self.report()
        self.assertEqual(self.report("--check"), 0)
        (self.perf / "plots" / "gone.svg").write_text("left over")
        self.assertEqual(self.report("--check"), 1)
        self.report()
        self.keep(result("cccc", 1.0))
        self.assertEqual(self.report("--check"), 1)

    def test_it_tells_ties_from_differences(self):
        self.report()
        self.assertIn("process: 2 (1.8–2.2) × floor, A/A 1 (0.9–1.1): above the noise.",
                      (self.perf / "report.md").read_text())
        self.keep(result("aaaa", 1.05))
        self.report()
        self.assertIn(": a tie.", (self.perf / "report.md").read_text())

    def test_a_ratio_to_axum_has_a_sentence_and_a_panel_of_its_own(self):
        line = result("aaaa", 2.0)
        line["summary"]["process"]["ratio_to_axum"] = spread(0.5)
        self.keep(line)
        self.report()
        self.assertIn("process: 0.5 (0.45–0.55) × axum, A/A 1 (0.9–1.1): below axum.", (self.perf / "report.md").read_text())
        drawing = ElementTree.parse(self.perf / "plots" / "made-up.svg")
        texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual([texts.count(f"process: ratio to {other}") for other in ("floor", "axum")], [1, 1])

    def test_a_plot_is_xml_with_a_point_for_each_run(self):
        self.report()
        drawing = ElementTree.parse(self.perf / "plots" / "made-up.svg")
        texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual((texts.count("aaaa"), texts.count("bbbb")), (2, 2))

    def test_figures_by_size_are_drawn_over_sizes(self):
        line = result("aaaa", 1.0)
        line["summary"] = {"at": {"1000": {"cpu": {"gateway": spread(5), "floor": spread(4)}},
                                  "100000": {"cpu": {"gateway": spread(9), "floor": spread(8)}}}}
        self.keep(line)
        self.report()
        drawing = ElementTree.parse(self.perf / "plots" / "made-up.svg")
        texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual([texts.count(word) for word in ("1000", "100000", "gateway", "floor", "cpu (aaaa)")], [1] * 5)
        self.assertEqual(texts.count("aaaa"), 0, "nothing of it is drawn over runs")

    def test_the_committed_report_fits_the_committed_results(self):
        command = [sys.executable, "-B", str(HERE / "report"), "--check"]
        check = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stderr)


def ran(us, connections=1_000, rss=500.0, **more):
    """A result of usher-load in which all that was measured took so many µs per delivery and per connection."""
    threads = [["usher-shard-0-0", us * connections / 1e6]]
    return {"connections": connections, "deliveries": connections, "measured": {"thread_cpu_seconds": threads},
            "afterwards": {"thread_cpu_seconds": threads},
            "figures": {"cpu_us_per_delivery": us, "rss_bytes_per_connection": rss,
                        "slab_bytes_per_connection_both_ends": 9_000}, **more}


class Scenarios(unittest.TestCase):
    def test_a_goal_is_met_or_missed_or_missed_by_less_than_the_noise(self):
        a_a = {"median": 1.0, "min": 0.8, "max": 1.1}
        verdicts = [bench.verdict({"median": ratio}, a_a) for ratio in (0.9, 1.0, 1.2, 1.3)]
        self.assertEqual(verdicts, ["met", "met", "missed by less than the noise", "missed"])

    def test_the_floor_is_reached_without_tls(self):
        floor = bench.Server("floor", types.SimpleNamespace(pid=7), "ws    ws://a/ws\nfloor b,c\n")
        self.assertEqual(floor.target("wss"), ["--url", "ws://a/ws", "--server-pid", "7", "--floor", "b,c"])

    def test_axum_is_reached_with_and_without_tls_and_knows_no_grpc(self):
        axum = bench.Server("axum", types.SimpleNamespace(pid=7), "ws    ws://a/ws\nwss   wss://b/ws\n")
        for scheme, address in (("ws", "ws://a/ws"), ("wss", "wss://b/ws")):
            self.assertEqual(axum.target(scheme), ["--url", address, "--server-pid", "7", "--target", "axum"])

    def test_what_a_gateway_costs_above_the_floor_is_counted_in_seals(self):
        fanout_wss = bench.scenario("fanout-wss")
        seal = {"ns": {"message": 100.0}, "sizes": {"record_bytes": 187}}
        alone = {"one_key": seal, "key_each": {"ns": {"message": 200.0}, "sizes": {}}}

        def judged(us):
            runs = [{"gateway": ran(us), "floor": ran(5.0), "again": ran(us), "alone": alone}] * 2
            summary = {name: {"a_a_ratio": bench.ratios([1, 1], [1, 1])} for name in bench.PARTS}
            fanout_wss.judge(summary, runs)
            return summary["process"]["one_key"], summary["process"]["key_each"]

        one, each = judged(5.15)
        self.assertAlmostEqual(one["seals_above_floor"]["median"], 1.5)
        self.assertAlmostEqual(each["seals_above_floor"]["median"], 0.75)
        self.assertEqual((one["goal"], each["goal"]), ("missed", "met"))
        self.assertEqual(judged(5.115)[0]["goal"], "met", "1.2 seals are allowed")

    def test_a_ws_handshake_may_cost_1_3_floors_and_a_token(self):
        handshake = bench.scenario("handshake")
        for us, goal in ((52.9, "met"), (53.2, "missed")):
            runs = [{"gateway": ran(us), "floor": ran(40.0), "alone": {"ns": {"jwt_hs256": 1_000}}}]
            summary = {name: {"a_a_ratio": bench.ratios([1], [1])} for name in handshake.HANDSHAKE}
            handshake.judge_plain(summary, runs)
            self.assertEqual(summary["shard_thread"]["goal"], goal)

    def test_tls_handshakes_that_both_sides_count_differently_void_a_run(self):
        handshake = bench.scenario("handshake")
        counts = {"full": 0, "resumed": 0}

        def play(full, resumed, connections, seen):
            def run(_bench, _gateway):
                counts["full"] += full
                counts["resumed"] += resumed
                return {"connections": connections, "tls": seen}
            gateway = types.SimpleNamespace(metric=lambda series: counts["full" if "full" in series else "resumed"])
            return handshake.tls_run(None, gateway, types.SimpleNamespace(name="full", run=run))

        play(3, 7, 10, {"full": 3, "resumed": 7, "tickets_offered": 7})
        for case in ((3, 7, 10, {"full": 4, "resumed": 6}), (3, 6, 10, {"full": 3, "resumed": 6})):
            self.assertRaises(bench.Failed, play, *case)

    def test_a_ticket_that_was_offered_and_not_taken_shows(self):
        handshake = bench.scenario("handshake")
        shards = {"thread_cpu_seconds": [["usher-shard-1-0", 0.3], ["usher-shard-0-0", 0.1], ["usher-control", 9.0]]}
        result = {"tls": {"tickets_offered": 10, "resumed": 9}, "afterwards": shards}
        shown = handshake.any_shard([{"two_shards": result}])
        self.assertEqual((shown["resumed_share"], shown["of_the_other_shard_share"]["median"]), (0.9, 0.375))

    def test_those_without_a_ticket_are_left_out_of_what_a_resumed_handshake_costs(self):
        handshake = bench.scenario("handshake")
        result = ran(64.0, connections=1_000, tls={"full": 100, "resumed": 900})
        self.assertAlmostEqual(handshake.resumed_us(result, 100.0), 60.0)

    def test_an_axum_that_resumes_other_than_it_is_asked_voids_a_run(self):
        handshake = bench.scenario("handshake")

        def play(full, resumed, offered, *options):
            result = {"connections": 10, "tls": {"full": full, "resumed": resumed, "tickets_offered": offered}}
            asked = types.SimpleNamespace(name="a", options=options, run=lambda _bench, _axum: result)
            return handshake.axum_run(None, None, asked)

        play(10, 0, 0)
        play(3, 7, 7, "--resume")
        for case in ((9, 0, 0), (3, 7, 7), (10, 0, 0, "--resume"), (4, 6, 7, "--resume")):
            self.assertRaises(bench.Failed, play, *case)

    def test_a_wss_handshake_may_cost_what_axums_does(self):
        handshake = bench.scenario("handshake")

        def judged(full, resumed):
            def tls(us, resumed=0):
                return ran(us, tls={"full": 1_000 - resumed, "resumed": resumed})
            played = {"full": tls(full), "again": tls(full), "axum_full": tls(100.0),
                      "resumed": tls(resumed, 1_000), "axum_resumed": tls(80.0, 1_000)}
            return handshake.judge_axum([played], handshake.shard_us)

        met, missed = judged(99.0, 79.0), judged(110.0, 88.0)
        self.assertEqual([met[name]["goal"] for name in ("full", "resumed")], ["met", "met"])
        self.assertEqual([missed[name]["goal"] for name in ("full", "resumed")], ["missed", "missed"])
        self.assertEqual([missed[name]["ratio_to_axum"]["median"] for name in ("full", "resumed")], [1.1, 1.1])

    def test_growth_is_told_apart_from_the_floors_own(self):
        scale = bench.scenario("scale")
        runs = {"1000": (5.0, 4.0, 1_000, 2_000.0), "1000 paced": (8.0, 8.0, 1_000, 2_000.0), "10000 paced": (9.0, 8.0, 10_000, 900.0),
                "100000": (10.0, 8.8, 100_000, 1_000.0)}
        played = {label: {"gateway": ran(of_gateway, count, rss), "floor": ran(of_floor, count, 0.0)}
                  for label, (of_gateway, of_floor, count, rss) in runs.items()}
        grown = scale.growth([played, played])
        self.assertEqual(grown["process_growth"]["gateway"]["median"], 2.0)
        self.assertEqual(grown["process_growth"]["floor"]["median"], 2.2)
        self.assertEqual(grown["process_growth"]["gateway_beside_floor"]["median"], 0.909)
        self.assertEqual(grown["process_same_rate_growth"]["gateway"]["median"], 1.25)
        goals = [grown[key] for key in ("goal", "goal_on_the_same_kernel_path", "goal_at_the_same_rate")]
        self.assertEqual(goals, ["missed", "met", "met"])
        # 100 000 × 1 000 less 1 000 × 2 000, for 99 000.
        self.assertEqual(grown["rss_bytes_per_further_connection"]["gateway"]["median"], 989.9)

    def test_positions_are_judged_by_the_control_thread_and_void_if_refused(self):
        positions = bench.scenario("positions")
        result = {"connections": 100, "seconds": 2.0,
                  "measured": {"thread_cpu_seconds": [["usher-shard-0-0", 0.5], ["usher-control", 1.5]]},
                  "figures": {"positions_accepted": 1e6, "positions_accepted_per_second": 5e5, "positions_refused": 0.0,
                              "control_us_per_position": 1.5, "shard_us_per_position": 0.5, "positions_received": 300.0}}
        figures = positions.figures(result)
        self.assertEqual((figures["control_busy"], figures["accepted_per_second_of_a_control_core"]), (0.75, 666_667))
        self.assertEqual(figures["received_per_client_and_second"], 1.5)
        self.assertEqual(positions.summed([figures] * 2)["accepted_per_second"], bench.spread([500_000]))
        result["figures"]["positions_refused"] = 1.0
        self.assertRaises(bench.Failed, positions.figures, result)
        result["figures"]["positions_refused"] = 0.0
        result["measured"]["thread_cpu_seconds"].pop()
        self.assertRaises(bench.Failed, positions.figures, result)

    def test_as_many_connections_as_the_host_holds_and_deliveries_alike(self):
        scale = bench.scenario("scale")
        run = bench.Bench("scale", types.SimpleNamespace(short=False))
        plan = scale.plan(run, 60_000)
        self.assertEqual(list(plan), ["1000", "1000 paced", "10000", "10000 paced", "50000", "60000"])
        asked = {label: dict(zip(options[::2], options[1::2])) for label, options in plan.items()}
        self.assertEqual(asked["1000"]["-n"] * asked["1000"]["--bursts"], asked["50000"]["-n"] * asked["50000"]["--bursts"])

    def test_an_advance_is_compared_with_the_floors_on_both_sides_of_it(self):
        advance = bench.scenario("advance")
        names = ["near", "all", "rpc", "stream near age", "stream age"]

        def line(sending_us, oldest_us):
            latency = {name: {"p50": 1.0, "p99": 2.0, "max": oldest_us} for name in names}
            figures = ["positions", "control_us_per_call", "stream_positions", "stream_sending_us_per_position",
                       "stream_control_us_per_call", "joins_per_second", "join_seconds", "join_control_us", "join_sending_us",
                       "join_rss_bytes_per_connection", "rss_bytes_per_connection"]
            return {"figures": {**dict.fromkeys(figures, 1.0), "sending_us_per_position": sending_us}, "latency_us": latency}

        def told(sending_us, oldest_us=9e6):
            return advance.told([{"before": line(4.0, 0), "gateway": line(sending_us, oldest_us), "after": line(6.0, 0)}])

        at_once = told(6.0)["at_once"]
        self.assertEqual((at_once["ratio_to_floor"]["median"], at_once["a_a_ratio"]["median"]), (1.2, 1.5))
        self.assertEqual([told(us)["goal"] for us in (6.5, 6.6)], ["met", "missed"])
        self.assertEqual([told(1.0, us)["goal_of_staleness"] for us in (1e7, 1.01e7)], ["met", "missed"])

    def test_six_shards_hold_100_000_where_a_table_has_20_000(self):
        self.assertLessEqual(host.share(100_000, 6), host.room(20_000, 6))
        self.assertGreater(host.share(100_000, 5), host.room(20_000, 5))


class Figures(unittest.TestCase):
    def test_three_digits_count(self):
        written = [plot.short(value) for value in (0.43951, 6.3, 999.6, 1234567, 0)]
        self.assertEqual(written, ["0.44", "6.3", "1 000", "1 234 567", "0"])


if __name__ == "__main__":
    unittest.main()
