"""When a search should stop, and which of its epochs is the answer: pure functions of what a run has recorded.

Where in the river: on the bank, looking on. Knows the records of one stage so far, oldest first; no arrays, no state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Records = Sequence[Mapping[str, Any]]  # of the finished epochs of a stage, see `runner`


class Verdict(NamedTuple):
    """The end of a stage, and its answer."""

    epoch: int  # whose genotype and scores are the answer, numbered as in the records
    why: str  # one sentence


Rule = Callable[[Records], Verdict | None]  # asked after every epoch but the last of a stage


def never(records: Records) -> Verdict | None:
    """Runs to the last epoch.

    Args:
      records: of the epochs of a stage; not used.
    """
    del records
    return None


def sharp_rise(
    window: int = 5, delta: int = 4, factor: float = 1.3, start: int = 10, *, measure: str = "curvature"
) -> Rule:
    """DARTS-ES: stops once the largest curvature has risen by a third, and goes back to before it rose.

    With m_k the mean of the last `window` values at the k-th value (of all, while they are fewer, but at least half
    a window):

        stop  if  m_k / m_{k - delta} > factor;    answer: the epoch of value k - delta - window // 2

    which is the middle of the older window. With a value every second epoch, 12 epochs before the present one.

    Args:
      window: values in a mean.
      delta: values between the two means.
      factor: rise that is too much.
      start: so many epochs at the beginning of a stage are never the answer.
      measure: what is looked at, a name under "measured" in the records.

    Raises:
      ValueError: where the records hold no such measure.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 4.3; automl/RobustDARTS `src/utils.py`, `EVLocalAvg`.
    """
    if window < 1 or delta < 1:
        raise ValueError(f"sharp_rise(window={window}, delta={delta}): both count values and must be at least 1.")

    def rule(records: Records) -> Verdict | None:
        points = _series(records, measure)
        now, before = len(points), len(points) - delta
        if before <= window // 2:
            return None
        answer = points[now - 1 - delta - window // 2][0]
        old, new = (float(np.mean([value for _, value in points[max(0, k - window) : k]])) for k in (before, now))
        if answer - records[0]["epoch"] < start or not (old > 0 and new / old > factor):  # so not where one is NaN
            return None
        return Verdict(answer, f"the {measure} rose by a factor of {new / old:.2f}, from {old:.3g} to {new:.3g}")

    return rule


def too_many_skips(limit: int = 2, *, cell: str | None = None) -> Rule:
    """DARTS+: stops as soon as a cell has `limit` skip connections or more, with the genotype of that epoch.

    Args:
      limit: skips that are too many.
      cell: cell type whose skips count; the first of the genotype unless given, which is the normal one.

    Reference: Liang et al. 2019, arXiv:1909.06035.
    """
    if limit < 1:
        raise ValueError(f"too_many_skips({limit}): give the number of skips that is too many, at least 1.")

    def rule(records: Records) -> Verdict | None:
        count, of = skips(records[-1], cell), cell or next(iter(records[-1]["genotype"]["cells"]))
        if count < limit:
            return None
        return Verdict(records[-1]["epoch"], f"{count} skip connections in the {of} cell")

    return rule


def skips(record: Mapping[str, Any], cell: str | None = None) -> int:
    """Skip connections in one cell type of a record's genotype, the first unless named.

    Args:
      record: of an epoch.
      cell: type of the cell.

    Raises:
      ValueError: where the genotype has no such cell.
    """
    cells = record["genotype"]["cells"]
    if cell is not None and cell not in cells:
        raise ValueError(f"no cell is called {cell!r}; this genotype has {', '.join(cells)}.")
    return sum(choice[0] == "skip_connect" for choice in cells[cell or next(iter(cells))])


# ------------------------------------------------------------------------------- what is said while it happens


def warnings(records: Records) -> dict[str, str]:
    """Signs of collapse after the last epoch, {kind: one sentence}; a run says each kind once.

    "skips": for two epochs running more than half of the edges of the first cell type are skips, and alpha's entropy
    has fallen by a tenth, so that it is not chance. "entropy": it is a tenth of what it was after the first epoch.
    "curvature": `sharp_rise` would stop.

    Args:
      records: of the epochs of a stage so far, at least one.
    """
    last, found = records[-1], {}
    edges = len(next(iter(last["genotype"]["cells"].values())))
    decided = last["alpha_entropy"] / records[0]["alpha_entropy"] if records[0]["alpha_entropy"] else 1.0
    if len(records) > 1 and decided < 0.9 and all(2 * skips(record) > edges for record in records[-2:]):
        found["skips"] = (
            f"{skips(last)} of {edges} edges of the cell are skip connections: the search is collapsing. Stop earlier "
            "(too_many_skips, sharp_rise) or raise the decay of the weights (r_darts_l2)."
        )
    if decided < 0.1:
        found["entropy"] = (
            f"alpha's entropy has fallen to {last['alpha_entropy']:.3f} nats: every edge has all but chosen its "
            "operation, and searching on will change little."
        )
    rise = sharp_rise()(records) if _series(records, "curvature", missing=True) else None
    if rise:
        found["curvature"] = (
            f"{rise.why}, since epoch {rise.epoch}: genotypes found from here on tend to do worse when they are "
            "trained alone. Stop by sharp_rise, or raise the decay of the weights."
        )
    return found


def _series(records: Records, measure: str, missing: bool = False) -> list[tuple[int, float]]:
    """(epoch, value) of the epochs that were measured."""
    series = [(r["epoch"], r["measured"][measure]) for r in records if measure in r.get("measured", {})]
    if records and not series and not missing:
        raise ValueError(
            f"no record has the measure {measure!r} that the rule looks at: run with a watch that measures it."
        )
    return series
