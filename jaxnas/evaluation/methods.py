"""Random search, aging evolution, local search and REINFORCE on a table, over all runs at once.

Where in the river: beside `tabular.py`, which owns budget and answer. Each is a `Method`: what to evaluate next, and
what is learnt from it. R runs, A architectures, 6 edges, O operations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.evaluation.tabular import Landscape, Method

_NODES = np.array([[0, 0, 0], [1, 2, 2], [3, 4, 5]])  # edges that end in each node
_INTO = np.array([1, 2, 3])  # how many


def _uniform(draw: np.random.Generator, scene: Landscape, runs: int) -> np.ndarray:
    return draw.integers(len(scene.ops), size=runs)


def random_search() -> Method:
    """Uniform, independent draws; an architecture may come twice.

    Reference: AutoDL-Projects `exps/NAS-Bench-201-algos/RANDOM.py`.
    """
    init = lambda draw, scene, runs: runs
    return Method(init, lambda draw, scene, runs: (runs, _uniform(draw, scene, runs)), lambda scene, runs, *_: runs)


class Population(NamedTuple):
    """The youngest P of each run; a ring."""

    rows: np.ndarray  # [R, P]
    rewards: np.ndarray  # [R, P]
    born: int


def evolution(population: int = 10, sample: int = 3) -> Method:
    """Aging evolution: the best of a random sample has a child with one operation changed; the oldest dies.

    The first P architectures are drawn uniformly. A mutation draws a node, one of its edges, and another operation for
    it, so that the edge into the first node changes most often.

    Args:
      population: P.
      sample: members that compete to be a parent, drawn with replacement.

    Raises:
      ValueError: for a population or sample below 1.

    Reference: Real et al. 2019, arXiv:1802.01548; AutoDL-Projects `exps/NAS-Bench-201-algos/R_EA.py`.
    """
    if population < 1 or sample < 1:
        raise ValueError(f"evolution(population={population}, sample={sample}): both must be at least 1.")

    def init(draw, scene: Landscape, runs: int) -> Population:
        return Population(np.zeros((runs, population), int), np.full((runs, population), -np.inf), 0)

    def ask(draw, scene: Landscape, state: Population):
        if state.born < population:
            return state, _uniform(draw, scene, len(state.rows))
        drawn = draw.integers(population, size=(len(state.rows), sample))
        rewards = np.take_along_axis(state.rewards, drawn, 1)
        chosen = np.take_along_axis(drawn, rewards.argmax(1)[:, None], 1)
        return state, _mutated(draw, scene, np.take_along_axis(state.rows, chosen, 1)[:, 0])

    def tell(scene, state: Population, rows, rewards) -> Population:
        kept, worth = state.rows.copy(), state.rewards.copy()
        kept[:, state.born % population], worth[:, state.born % population] = rows, rewards
        return Population(kept, worth, state.born + 1)

    return Method(init, ask, tell)


def _mutated(draw: np.random.Generator, scene: Landscape, parents: np.ndarray) -> np.ndarray:
    """Rows of children: one operation of one edge is another."""
    runs, ops = np.arange(len(parents)), scene.ops[parents].astype(int)
    node = draw.integers(len(_INTO), size=len(parents))
    edge = _NODES[node, draw.integers(_INTO[node])]
    choices = len(scene.op_names)
    ops[runs, edge] = (ops[runs, edge] + draw.integers(1, choices, size=len(parents))) % choices
    return scene.find(ops)


class Climb(NamedTuple):
    """Where each run stands, and which neighbours it still has to look at."""

    at: np.ndarray  # [R] row, -1 before a start
    queue: np.ndarray  # [R, 6 (O - 1)] neighbours in random order, those to evaluate first
    left: np.ndarray  # [R] how many are to be evaluated
    seen: np.ndarray  # [R, T] rows evaluated so far


def local_search() -> Method:
    """Hill climbing: all neighbours, which differ in one operation, then the best of them; a new start at a summit.

    A neighbour that a run has evaluated before costs nothing again. Starts are uniform.

    Reference: White, Nolen, Savani 2021, arXiv:2005.02960.
    Deviates: starts again at a local optimum until the budget is spent.
    """

    def init(draw, scene: Landscape, runs: int) -> Climb:
        neighbours = scene.ops.shape[1] * (len(scene.op_names) - 1)
        return Climb(
            np.full(runs, -1), np.zeros((runs, neighbours), int), np.zeros(runs, int), np.zeros((runs, 0), int)
        )

    def ask(draw, scene: Landscape, state: Climb):
        while (idle := (state.left == 0) & (state.at >= 0)).any():
            state = _climbed(draw, scene, state, idle)
        starts = state.at < 0
        asked = np.where(starts, _uniform(draw, scene, len(starts)), state.queue[:, 0])
        queue, left = np.roll(state.queue, -1, 1), state.left - 1
        return _arrived(draw, scene, state._replace(queue=queue, left=left), starts, asked), asked

    def tell(scene: Landscape, state: Climb, rows, rewards) -> Climb:
        return state._replace(seen=np.concatenate([state.seen, rows[:, None]], 1))

    return Method(init, ask, tell)


def _climbed(draw: np.random.Generator, scene: Landscape, state: Climb, idle: np.ndarray) -> Climb:
    """Runs that have seen all neighbours go to the best one, or away from a summit."""
    best = np.take_along_axis(state.queue, scene.reward[state.queue].argmax(1)[:, None], 1)[:, 0]
    higher = idle & (scene.reward[best] > scene.reward[state.at])
    state = state._replace(at=np.where(idle & ~higher, -1, state.at))
    return _arrived(draw, scene, state, higher, best)


def _arrived(draw: np.random.Generator, scene: Landscape, state: Climb, which: np.ndarray, rows: np.ndarray) -> Climb:
    """Some runs stand at new rows: their neighbours are lined up in random order, unseen ones first."""
    here = _neighbours(scene, rows[which])
    known = (here[:, :, None] == state.seen[which][:, None]).any(-1)
    order = np.argsort(known + draw.random(here.shape), axis=1)  # below 1 is unknown
    at, queue, left = state.at.copy(), state.queue.copy(), state.left.copy()
    at[which], queue[which], left[which] = rows[which], np.take_along_axis(here, order, 1), (~known).sum(1)
    return state._replace(at=at, queue=queue, left=left)


def _neighbours(scene: Landscape, rows: np.ndarray) -> np.ndarray:
    """Rows [n, 6 (O - 1)] that differ from rows [n] in one operation."""
    edges, choices = scene.ops.shape[1], len(scene.op_names)
    change = np.eye(edges, dtype=int)[:, None] * np.arange(1, choices)[:, None]  # [6, O - 1, 6]
    return scene.find((scene.ops[rows].astype(int)[:, None] + change.reshape(-1, edges)) % choices)


class Policy(NamedTuple):
    """Independent softmax policies over operations, one for each edge of each run."""

    logits: Any  # [R, 6, O]
    optimizer: Any
    average: np.ndarray  # [R] of past rewards, weights falling by the momentum
    weight: float  # the sum of these weights


def reinforce(rate: float = 0.001, momentum: float = 0.9, start: float = 0.001) -> Method:
    """Policy gradient:  logits <- Adam of  d/dlogits [-log p(ops) (r - b)],  r the reward in percent,

        b = sum_i m^i r_{t-i} / sum_i m^i,    which holds the newest reward too.

    Args:
      rate: Adam's learning rate.
      momentum: m.
      start: standard deviation of the first logits.

    Reference: Williams 1992; AutoDL-Projects `exps/NAS-Bench-201-algos/REINFORCE.py`.
    """
    optimizer = optax.adam(rate)

    def init(draw, scene: Landscape, runs: int) -> Policy:
        shape = (runs, scene.ops.shape[1], len(scene.op_names))
        logits = jnp.asarray(start * draw.standard_normal(shape), jnp.result_type(float))
        return Policy(logits, optimizer.init(logits), np.zeros(runs), 0.0)

    def ask(draw, scene: Landscape, state: Policy):
        noisy = np.asarray(state.logits) + draw.gumbel(size=state.logits.shape)
        return state, scene.find(noisy.argmax(-1))

    @jax.jit
    def moved(logits, state, ops, advantage):
        gradient = (jax.nn.softmax(logits) - jax.nn.one_hot(ops, logits.shape[-1])) * advantage[:, None, None]
        with jax.numpy_dtype_promotion("standard"):  # optax divides by integers
            updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(logits, updates), state

    def tell(scene: Landscape, state: Policy, rows, rewards) -> Policy:
        average = momentum * state.average + (1 - momentum) * 100 * rewards
        weight = momentum * state.weight + (1 - momentum)
        advantage = jnp.asarray(100 * rewards - average / weight, state.logits.dtype)
        logits, optimised = moved(state.logits, state.optimizer, jnp.asarray(scene.ops[rows], jnp.int32), advantage)
        return Policy(logits, optimised, average, weight)

    return Method(init, ask, tell)
