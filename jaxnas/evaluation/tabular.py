"""Searches on a table: many runs side by side, each evaluation a look-up that costs simulated seconds.

Where in the river: the way out, past alpha: the searches that differentiable ones are compared with. Knows a landscape
(architectures, what an evaluation shows, what it costs) and no networks. A method says what to evaluate next and learns
from what it sees (`methods.py`); this file keeps the budget and the answer.

Reference: Dong and Yang 2020, NAS-Bench-201, arXiv:2001.00326, section 5; AutoDL-Projects `exps/NAS-Bench-201-algos/`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxnas.evaluation.benchmark import Table, find


class Landscape(NamedTuple):
    """What a search may look at: A architectures."""

    ops: np.ndarray  # [A, 6] columns of op_names
    places: np.ndarray  # [O^6] row by code
    op_names: tuple[str, ...]
    reward: np.ndarray  # [A] what an evaluation shows, higher is better
    seconds: np.ndarray  # [A] what it costs

    def find(self, ops: np.ndarray) -> np.ndarray:
        """Rows of architectures [..., 6]."""
        return find(ops, self.places, self.op_names)


class Budget(NamedTuple):
    """When a run ends: before the evaluation that would exceed either."""

    seconds: float = 12000.0  # simulated; the published budget
    evaluations: int | None = None


PUBLISHED = Budget()


class Method(NamedTuple):
    """A search of R runs side by side; states are NamedTuples of arrays, evaluations are rows [R]."""

    init: Callable[[np.random.Generator, Landscape, int], Any]  # (draw, landscape, runs) -> state
    ask: Callable[[np.random.Generator, Landscape, Any], tuple[Any, np.ndarray]]  # -> (state, rows to evaluate)
    tell: Callable[[Landscape, Any, np.ndarray, np.ndarray], Any]  # (landscape, state, rows, rewards) -> state


class History(NamedTuple):
    """What R runs evaluated, T at most, in order."""

    rows: np.ndarray  # [R, T], -1 behind the end of a run
    seconds: np.ndarray  # [R, T] simulated time after each evaluation, inf behind the end
    best: np.ndarray  # [R, T] row of the highest reward so far, the first of equals

    @property
    def answers(self) -> np.ndarray:
        """[R] the row that each run ends with."""
        return self.best[:, -1]

    @property
    def evaluations(self) -> np.ndarray:
        """[R] how many evaluations each run made."""
        return (self.rows >= 0).sum(1)


def landscape(table: Table, dataset: str = "cifar10", epochs: int = 12, *, part: str = "valid") -> Landscape:
    """A table as the published protocol shows it: validation accuracy after a short training, for its seconds.

    An evaluation costs the training, and one pass over the validation images where the table knows how long that takes.
    A table without seconds for so many epochs has those of its longest training, in proportion.

    Args:
      table: see `benchmark.read`.
      dataset: on which a search looks.
      epochs: of the training that an evaluation stands for; 12 in the published protocol.
      part: of the images; searching on test is for upper bounds only.

    Raises:
      ValueError: where the table has no such accuracies or no seconds.

    Deviates: the official code draws one training seed for each evaluation; the table holds the mean over seeds (after
      12 epochs the official data has one seed only, so that they agree).
    """
    found = {long: seconds for (name, long), seconds in table.train_seconds.items() if name == dataset}
    if not found:
        raise ValueError(f"{table.name} has no training seconds on {dataset}, which evaluations are charged with.")
    longest = max(found)
    seconds = found.get(epochs, found[longest] * epochs / longest) + table.valid_seconds.get(dataset, 0.0)
    return Landscape(table.ops, table.places, table.op_names, table.values(dataset, part, epochs), seconds)


def search(method: Method, scene: Landscape, key: Array, *, runs: int = 500, budget: Budget = PUBLISHED) -> History:
    """Independent runs of one method, each until its budget is spent.

    Args:
      method: `methods.evolution()` and the like.
      scene: what is looked at.
      key: everything random follows from it.
      runs: how many, R.
      budget: simulated seconds and evaluations of each run; an evaluation that would exceed it is not made.

    Raises:
      ValueError: for no runs, or a budget that does not pay for one evaluation of any architecture.
    """
    most = _most(scene, budget)
    if runs < 1 or most < 1 or budget.seconds < scene.seconds.max():
        raise ValueError(
            f"runs={runs}, {budget}: give 1 run and {scene.seconds.max():.4g} seconds at least, the dearest evaluation."
        )
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    state, spent, over = method.init(draw, scene, runs), np.zeros(runs), np.zeros(runs, bool)
    rows: list[np.ndarray] = []
    times: list[np.ndarray] = []
    while len(rows) < most:
        state, asked = method.ask(draw, scene, state)
        spent = spent + scene.seconds[asked]
        over = over | (spent > budget.seconds)
        if over.all():
            break
        rows.append(np.where(over, -1, asked))
        times.append(np.where(over, np.inf, spent))
        state = method.tell(scene, state, asked, scene.reward[asked])
    return _history(scene, np.stack(rows, 1), np.stack(times, 1))


def _most(scene: Landscape, budget: Budget) -> float:
    by_time = budget.seconds / scene.seconds.min() if scene.seconds.min() > 0 else np.inf
    most = min(np.floor(by_time), np.inf if budget.evaluations is None else budget.evaluations)
    if np.isinf(most):
        raise ValueError(f"{budget} never ends: give evaluations where seconds are infinite or cost nothing.")
    return most


def _history(scene: Landscape, rows: np.ndarray, seconds: np.ndarray) -> History:
    seen = np.where(rows < 0, -np.inf, scene.reward[rows])
    best = np.maximum.accumulate(seen, 1)
    fresh = np.where(np.diff(best, axis=1, prepend=-np.inf) > 0, np.arange(rows.shape[1]), 0)
    return History(rows, seconds, np.take_along_axis(rows, np.maximum.accumulate(fresh, 1), 1))


def over_time(history: History, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What the best architecture so far is worth at given times, [R, len(times)]; NaN before the first evaluation.

    Args:
      history: of R runs.
      values: [A] what rows are worth, such as test accuracy.
      times: simulated seconds, rising.
    """
    done = (history.seconds[:, None] <= np.asarray(times)[:, None]).sum(-1)  # [R, times]
    found = values[np.take_along_axis(history.best, np.maximum(done - 1, 0), 1)]
    return np.where(done > 0, found, np.nan)


def weighed(accuracy, latency, target: float, *, below: float = -0.07, above: float = -0.07):
    """Accuracy weighed by latency: accuracy (latency / target)^w, w = below up to the target and above beyond it.

    A reward for any search: `scene._replace(reward=weighed(scene.reward, table.latency_ms["pixel3"], 20.0))`.

    Args:
      accuracy, latency: numbers or arrays of one shape; latency above 0, in the unit of the target.
      target: latency that is aimed at.
      below, above: exponents; (-0.07, -0.07) is the paper's soft constraint, (0, -1) its hard one.

    Reference: Tan et al. 2019 (MnasNet), arXiv:1807.11626, equations 2 and 3.
    """
    ratio = np.asarray(latency, float) / target
    return accuracy * ratio ** np.where(ratio <= 1, below, above)
