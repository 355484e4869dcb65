"""Searches made of several runs: DARTS-ADA, which goes back and regularises more, and the grids of R-DARTS.

Where in the river: around the runner. Each run is a folder of its own; everything can be broken off and repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jax import Array

from jaxnas import folder, places
from jaxnas.continuing import SET
from jaxnas.data import Split
from jaxnas.evaluation.diagnostics import Watch, spectrum
from jaxnas.evaluation.stopping import Rule, never, sharp_rise
from jaxnas.folder import Record
from jaxnas.runner import Result, run
from jaxnas.settings import in_full
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.strategy import Strategy
from jaxnas.terminal import console

DECAYS = (3e-4, 3e-3, 3e-2)  # of DARTS-ADA


def adaptive(
    strategy_of: Callable[[float], Strategy],
    epochs: int,
    space: Space,
    data: Split,
    key: Array,
    *,
    out: Path | str,
    decays: Sequence[float] = DECAYS,
    stop: Rule | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Result:
    """DARTS-ADA: whenever the rule fires, goes back to its epoch and goes on with the next, larger decay.

    Weights, alpha, both optimizers and the records are those of the epoch that the rule names. With the last decay the
    search runs to its end. What was run before is found in `out` and not run again.

    Args:
      strategy_of: decay -> the row: `lambda decay: r_darts_l2(steps, decay, every=steps_in_an_epoch)`.
      epochs, space, data, key: as in `run`.
      out: folder of the runs, one subfolder `decay-0.0003` for each.
      decays: rising; 3e-4 to 3e-2, each ten times the last, in the official code.
      stop: `sharp_rise()` unless given.
      watch: `Watch(spectrum)` unless given.
      options: of `run`; `kept`, all epochs unless given, must reach back to any epoch that the rule may name.

    Raises:
      ValueError: for decays that do not rise.
      FileNotFoundError: where the state of the rule's epoch was not kept.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 6.1; automl/RobustDARTS `src/search/train_search.py`.
    Deviates: the official code restores the old curvatures, but its rule goes on with those that it has seen until it
      fired, from epochs now undone; here these are forgotten.
    """
    if not decays or any(b <= a for a, b in pairwise(decays)):
        raise ValueError(f"adaptive(decays={tuple(decays)}): give one or more, each larger than the one before.")
    usual = {"kept": epochs, "watch": watch or Watch(spectrum), "console": console()}
    go = partial(_run_in, epochs, space, data, key, {**usual, **options})
    first, *more = ((decay, Path(out) / f"decay-{decay:g}") for decay in decays)
    rule = stop or sharp_rise()
    result = go(strategy_of(first[0]), first[1], {"decay": first[0]}, stop=rule if more else never)
    for decay, here in more:
        if result.stopped is None:
            break
        row = strategy_of(decay)
        if not here.exists():
            changes = {"decay": decay, SET: in_full([Stage(row, epochs)])}
            folder.branch(result.folder, here, result.stopped.epoch, changes)
        result = go(row, here, {"decay": decay}, stop=never if decay == decays[-1] else rule)
    return result


class Picked(NamedTuple):
    """One of several runs, and how all of them scored."""

    name: str
    result: Result
    scores: dict[str, float]


def grid(
    rows: Mapping[str, Strategy],
    epochs: int,
    space: Space,
    data: Split,
    key: Array,
    *,
    out: Path | str,
    score: Callable[[Result], float] | None = None,
    **options: Any,
) -> Picked:
    """R-DARTS: one search for each row, and the best of them by validation. Finished runs in `out` are not run again.

    Args:
      rows: by name, which is also the subfolder of `out`: `{f"{d:g}": r_darts_l2(steps, d) for d in (3e-4, ...)}`.
      epochs, space, data, key: as in `run`.
      out: folder of the runs.
      score: Result -> larger is better; see `pick_by_validation`, which says what it should be.
      options: of `run`.

    Raises:
      ValueError: for names that are not those of folders in `out`.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 6.2.
    """
    go = partial(_run_in, epochs, space, data, key, {"console": console(), **options})
    folders = {name: places.within(Path(out), name) for name in rows}
    results = {name: go(row, folders[name], {"row": name}) for name, row in rows.items()}
    scores = {name: (score or _one_shot)(result) for name, result in results.items()}
    best = max(scores, key=scores.__getitem__)
    return Picked(best, results[best], scores)


def pick_by_validation(runs: Mapping[str, Sequence[Record]], measure: str = "valid_accuracy") -> str:
    """The name of the run whose answer validates best in its own supernet; the first of equals.

    This "one-shot" accuracy is cheap, and it misleads: the shared weights were trained with the very regularisation
    that differs between the runs, and their images moved alpha. In the published logs of S1 on CIFAR-10 it is best for
    decays of 9e-4 and 27e-4, whose cells have 5 to 8 skips of 8, and worse for 81e-4 and 243e-4, with 0 to 2. Where it
    matters, train each genotype alone on the training half, validate on the other, and pick by that: `grid(score=...)`.

    Args:
      runs: finished runs by name, as `Result.records` or `folder.read_records(path)`.
      measure: what is compared, larger is better.

    Raises:
      ValueError: for no runs, or records without the measure.
    """
    scores = {name: _validation(records, measure) for name, records in runs.items()}
    if not scores:
        raise ValueError("pick_by_validation: no runs are given, so there is nothing to pick from.")
    return max(scores, key=scores.__getitem__)


def _run_in(
    epochs, space, data, key, options, row: Strategy, here: Path, settings: Mapping[str, Any], **more
) -> Result:
    """One run, started or continued."""
    settings = {**(options.get("settings") or {}), **settings}
    fixed = {**options, **more, "settings": settings, "resume": (here / "config.json").exists()}
    return run([Stage(row, epochs)], space, data, key, out=here, **fixed)


def _one_shot(result: Result) -> float:
    return _validation(result.records, "valid_accuracy")


def _validation(records: Sequence[Record], measure: str) -> float:
    answer = folder.answer(records)
    if measure not in answer:
        raise ValueError(f"the record of epoch {answer['epoch']} has no {measure!r}; it has {', '.join(answer)}.")
    return answer[measure]
