"""The rule by which two builds differ, or do not.

Each round runs A, B, B', A' (the next one B, A, A', B'), where A' is a second process of the same binary: a drift of the
machine falls on both alike. Of each round come the paired ratio (B + B') / (A + A'), and two ratios of a binary to itself,
A'/A and B'/B. Intervals are those of the median over the rounds, 95 %, bootstrapped with a fixed seed. The builds
differ in a figure when both hold:

  1. the interval of the paired ratio lies outside the noise band, which reaches from 1/w to w, with w the end of the
     interval of a binary's ratio to itself that is farther from 1;
  2. the sign test over the rounds says p < 0.05: five rounds cannot, six can if all agree.

Everything else is a tie, whatever its median says.
"""

import math
import random
import statistics

from bench import spread

ORDERS = (("A", "B", "B'", "A'"), ("B", "A", "A'", "B'"))
RESAMPLES, SEED = 2_000, 1
SIGN_P_MAX = 0.05


def judge(rounds):
    """What one figure says, from its values by name for each round."""
    paired = [(each["B"] + each["B'"]) / (each["A"] + each["A'"]) for each in rounds]
    same = [each[name + "'"] / each[name] for each in rounds for name in "AB"]
    differ, noise = interval(paired), interval(same)
    width = max(noise[1], 1 / noise[0])
    p = sign_test(paired)
    outside = differ[0] > width or differ[1] < 1 / width
    verdict = "tie"
    if outside and p < SIGN_P_MAX:
        verdict = "B is better" if differ[1] < 1 else "B is worse"
    return {
        "a": spread([value for each in rounds for value in (each["A"], each["A'"])]),
        "b": spread([value for each in rounds for value in (each["B"], each["B'"])]),
        "b_to_a": {**spread([round(ratio, 4) for ratio in paired]), "interval": differ},
        "a_a_ratio": {**spread([round(ratio, 4) for ratio in same]), "interval": noise},
        "sign_test_p": round(p, 4),
        "verdict": verdict,
    }


def interval(ratios):
    """The 95 % interval of their median, bootstrapped."""
    dice = random.Random(SEED)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return [round(medians[int(RESAMPLES * share)], 4) for share in (0.025, 0.975)]


def sign_test(ratios):
    """How likely so many of them, or more, lie on one side of 1 by chance; two-sided."""
    above, below = sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios)
    count, larger = above + below, max(above, below)
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(larger, count + 1)) / 2**count)
