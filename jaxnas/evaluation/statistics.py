"""Numbers about few numbers: means with intervals, paired differences, agreement of ranks.

Where in the river: on the bank. Knows arrays of accuracies; no runs, no methods. scipy.stats, which takes a second to
import, is imported where it is used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0  # of the resamples: the same numbers give the same interval


class Summary(NamedTuple):
    """What repeated measurements say, in their unit."""

    n: int
    mean: float
    deviation: float | None  # of the sample, divided by n - 1; none for one value
    interval: tuple[float, float] | None  # of the mean; none for one value
    best: float


class Ranks(NamedTuple):
    """How far two lists of scores order the same things alike."""

    n: int
    kendall: float | None  # tau-b; none where one of the lists is constant
    spearman: float | None


def summary(values: Sequence[float]) -> Summary:
    """Mean, deviation of the sample, bootstrap interval of the mean, and the best.

        mean = sum x / n,    deviation^2 = sum (x - mean)^2 / (n - 1)

    Args:
      values: [n] of one unit, n >= 1.

    Raises:
      ValueError: for no values, or such as are not finite.

    >>> summary([90.0, 91.0, 92.0])[:3]
    (3, 91.0, 1.0)
    """
    x = np.asarray(values, float)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"summary of {list(values)}: give at least one value, and finite ones.")
    if x.size == 1:
        return Summary(1, float(x[0]), None, None, float(x[0]))
    return Summary(x.size, float(x.mean()), float(x.std(ddof=1)), interval(x), float(x.max()))


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean: where 95 % of the means of resamples lie.

    Resamples are drawn with a fixed seed, so that equal values give equal intervals. With few values it is too narrow:
    `coverage` says by how much.

    Args:
      values: [n], n >= 2.

    Reference: Efron 1979, Annals of Statistics 7(1), doi 10.1214/aos/1176344552.

    >>> interval([3.0, 3.0, 3.0])
    (3.0, 3.0)
    """
    x = np.asarray(values, float)
    if x.size < 2:
        raise ValueError(f"an interval from {x.size} values: give at least 2.")
    rows = np.random.default_rng(SEED).integers(x.size, size=(RESAMPLES, x.size))
    low, high = np.quantile(x[rows].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def coverage(n: int) -> float:
    """How often `interval` covers the mean of a normal distribution, from n values of it.

    Means of resamples have the variance (n - 1) s^2 / n^2; taken as normal,

        P(|t| < z sqrt((n - 1) / n)),    t of Student's distribution with n - 1 degrees of freedom

    Args:
      n: values, at least 2.

    >>> round(coverage(5), 2), round(coverage(1000), 2)
    (0.85, 0.95)
    """
    from scipy import stats

    z = stats.norm.ppf((1 + LEVEL) / 2)
    return float(1 - 2 * stats.t.sf(z * np.sqrt((n - 1) / n), n - 1))


def relative_improvement(accuracy: float, random: float) -> float:
    """How much better than random sampling, in percent: 100 (accuracy - random) / random.

    Args:
      accuracy: of the method.
      random: of random sampling, in the same unit, above 0.

    Reference: Yang, Esperança, Carlucci 2020, arXiv:1912.12522, section 3.

    >>> relative_improvement(0.97, 0.96) > 1
    True
    """
    return 100 * (accuracy - random) / random


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> Ranks:
    """Kendall's tau-b and Spearman's rho of cheap scores and true accuracies.

    Args:
      scores, accuracies: [n] of the same n things, n >= 2.

    Raises:
      ValueError: for lists of two lengths, or shorter than 2.

    Reference: Kendall 1938, Biometrika 30; Yu et al. 2020, arXiv:1902.08142, for supernets.

    >>> rank_correlation([1, 2, 3], [10, 30, 20]).spearman
    0.5
    """
    if len(scores) != len(accuracies) or len(scores) < 2:
        raise ValueError(f"{len(scores)} scores and {len(accuracies)} accuracies: give as many of each, at least 2.")
    from scipy import stats

    if len(set(scores)) == 1 or len(set(accuracies)) == 1:
        return Ranks(len(scores), None, None)
    kendall, spearman = (f(scores, accuracies).statistic for f in (stats.kendalltau, stats.spearmanr))
    return Ranks(len(scores), float(kendall), float(spearman))
