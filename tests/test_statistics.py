"""Numbers about few numbers, against formulas."""

from itertools import permutations
from math import sqrt

import numpy as np
import pytest

from jaxnas.evaluation.statistics import coverage, interval, rank_correlation, relative_improvement, summary


def kendall(order):
    """Concordant minus discordant pairs, over pairs."""
    pairs = [(i, j) for j in range(len(order)) for i in range(j)]
    return sum(1 if order[i] < order[j] else -1 for i, j in pairs) / len(pairs)


def test_rank_correlations_of_all_orders_of_four():
    for order in permutations(range(4)):
        found = rank_correlation(range(4), [10.0 + rank**3 for rank in order])
        squares = sum((i - rank) ** 2 for i, rank in enumerate(order))
        assert found.n == 4 and found.kendall == pytest.approx(kendall(order))
        assert found.spearman == pytest.approx(1 - 6 * squares / (4 * 15))


def test_ties_and_constants():
    # of 3 pairs one is tied in the scores: tau-b = (2 - 0) / sqrt((3 - 1) 3)
    assert rank_correlation([1, 1, 2], [1, 2, 3]).kendall == pytest.approx(2 / sqrt(6))
    assert rank_correlation([1, 1, 1], [1, 2, 3])[1:] == (None, None)


@pytest.mark.parametrize("wrong", [([1], [1]), ([1, 2], [1, 2, 3])])
def test_rank_correlation_needs_pairs(wrong):
    with pytest.raises(ValueError, match="as many of each"):
        rank_correlation(*wrong)


def test_summary():
    found = summary([1.0, 2.0, 3.0, 6.0])
    assert found.mean == 3 and found.deviation == pytest.approx(sqrt((4 + 1 + 9) / 3)) and found.best == 6
    assert found.interval == interval([1.0, 2.0, 3.0, 6.0])  # the same values, the same interval
    assert summary([97.2])[2:] == (None, None, 97.2)
    assert interval([5.0] * 7) == (5.0, 5.0)
    for wrong in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            summary(wrong)
    with pytest.raises(ValueError, match="at least 2"):
        interval([1.0])


def test_an_interval_of_two_values_from_all_resamples():
    """Means of resamples of (0, 1) are 0, 1/2, 1 with 1/4, 1/2, 1/4: more than 2.5 % on each side."""
    assert interval([0.0, 1.0]) == (0.0, 1.0)


@pytest.mark.parametrize("n", [4, 20])
def test_an_interval_covers_as_often_as_it_says(n):
    """400 samples of a normal distribution; three standard errors, and 0.02 since resamples are not normal."""
    draws, samples = np.random.default_rng(0).normal(3.0, 2.0, (400, n)), 400
    hits = sum(low <= 3.0 <= high for low, high in map(interval, draws))
    p = coverage(n)
    assert abs(hits / samples - p) < 3 * sqrt(p * (1 - p) / samples) + 0.02
    assert 0.7 < p < 0.95


def test_coverage_with_two_values():
    """Student with one degree of freedom is Cauchy: P(|t| < x) = 2 arctan(x) / pi, x = 1.959964 / sqrt 2."""
    assert coverage(2) == pytest.approx(2 * np.arctan(1.959964 / sqrt(2)) / np.pi, abs=1e-6)


def test_relative_improvement():
    assert relative_improvement(97.0, 96.0) == pytest.approx(1.0416667)
