#!/usr/bin/env python3
"""What the measuring tools promise: the rule of noise.py against noise that is known, and that reports repeat themselves."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench  # noqa: E402
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

    def test_a_plot_is_xml_with_a_point_for_each_run(self):
        self.report()
        drawing = ElementTree.parse(self.perf / "plots" / "made-up.svg")
        texts = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual((texts.count("aaaa"), texts.count("bbbb")), (2, 2))

    def test_the_committed_report_fits_the_committed_results(self):
        command = [sys.executable, "-B", str(HERE / "report"), "--check"]
        check = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stderr)


class Figures(unittest.TestCase):
    def test_three_digits_count(self):
        written = [plot.short(value) for value in (0.43951, 6.3, 999.6, 1234567, 0)]
        self.assertEqual(written, ["0.44", "6.3", "1 000", "1 234 567", "0"])


if __name__ == "__main__":
    unittest.main()
