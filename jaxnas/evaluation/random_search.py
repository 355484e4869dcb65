"""Random search, alone and with shared weights: the baselines of every comparison.

Where in the river: the way out, past alpha. Knows genotypes, their scores and a bound search; the loops are the host's.

Reference: Li and Talwalkar 2019, arXiv:1902.07638; liamcli/randomNAS_release `searchers/random_weight_share.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxnas.evaluation.shared_weights import Tell, counted_scorer, one_hot_gates, silent
from jaxnas.hypergradient import Batches
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import Gates, Space
from jaxnas.strategies.decoding import Decode


class Scored(NamedTuple):
    """A genotype and what it is worth; higher is better."""

    genotype: Genotype
    score: float


def random_genotype(key: Array, space: Space, decode: Decode) -> Genotype:
    """A genotype drawn uniformly from all that a decoding can give.

    Each edge gets a random rank, and so does each operation on it; ranks of edges outweigh those of operations. So a
    decoding that compares products of both chooses edges at random, and on each a random one of those that it allows.

    Args:
      key: everything random follows from it.
      space: what may be built; masks are left to the decoding.
      decode: scores -> genotype, such as `top_edges()`; what it can give is what is drawn from.

    Reference: Li and Talwalkar 2019, arXiv:1902.07638.

    >>> from jaxnas.spaces.darts import s2
    >>> from jaxnas.strategies.decoding import top_edges
    >>> len(random_genotype(jax.random.key(0), s2(), top_edges()).edges("normal"))
    8
    """
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return decode({cell: _random_ranks(draw, len(space.edges), len(space.ops)) for cell in space.cells}, space)


def _random_ranks(draw: np.random.Generator, edges: int, ops: int) -> Gates:
    """Edges at 1/E, 2/E, ..., 1, and operations within 1 - 1/2E and 1, in random order."""
    order = draw.permuted(np.tile(np.arange(ops), (edges, 1)), axis=1)
    ranks: Any = (1 - order / (2 * edges * ops), (draw.permutation(edges) + 1) / edges)
    return Gates(*ranks)


def random_search(
    score: Callable[[Genotype], float], key: Array, space: Space, n: int, decode: Decode
) -> tuple[Scored, list[Scored]]:
    """The best of n random genotypes, and all of them in the order in which they were drawn.

    Args:
      score: what a genotype is worth, higher is better: a training, or a look into a table.
      key: draws the genotypes, each independent of the others.
      space: what may be built.
      n: genotypes to look at.
      decode: says which genotypes there are: `top_edges()` for DARTS, `argmax_edges()` for NAS-Bench-201.

    Raises:
      ValueError: for n below 1.
    """
    if n < 1:
        raise ValueError(f"random_search over n={n} genotypes: look at 1 at least.")
    found = [random_genotype(k, space, decode) for k in jax.random.split(key, n)]
    tried = [Scored(genotype, float(score(genotype))) for genotype in found]
    return max(tried, key=lambda one: one.score), tried


def pick_shared(
    search: Search,
    state: SearchState,
    data: Batches,
    key: Array,
    batch: int = 64,
    tell: Tell = silent,
    *,
    samples: int = 1000,
    batches: int = 10,
    finalists: int = 10,
) -> Genotype:
    """The last part of random search with shared weights: the best of many random genotypes under the trained weights.

    Args:
      search: of the row `random_sharing`, or any other; its decoding says which genotypes there are.
      state: what it was trained to.
      data: all images; those of the validation half score.
      key: draws genotypes and images.
      batch: images in a batch.
      tell: called with (genotypes scored, of how many) after each; the scores of both rounds count.
      samples: genotypes that are scored on some batches, the same for all.
      batches: number of these.
      finalists: how many of the best are scored again, on the whole validation half.

    Raises:
      ValueError: for samples, batches or finalists below 1.

    Deviates: one round of samples, where the authors make one for each 10,000 steps; they go on through their batches
      from sample to sample. Operations that the decoding never chooses are not sampled. See `scorer` about norms.
    """
    if min(samples, batches, finalists) < 1:
        raise ValueError(f"samples={samples}, batches={batches}, finalists={finalists}: all must be at least 1.")
    key_draw, key_short, key_whole = jax.random.split(key, 3)
    drawn = (random_genotype(k, search.space, search.strategy.decode) for k in jax.random.split(key_draw, samples))
    found = list(dict.fromkeys(drawn))
    total, score = len(found) + min(finalists, len(found)), counted_scorer(search, batch)
    worth = lambda g, k, n: score(state, one_hot_gates(g, search.space), data.valid, k, n)["accuracy"]
    short = _ranked(lambda g: worth(g, key_short, batches), found, lambda done: tell(done, total))
    best = [one.genotype for one in short[:finalists]]
    return _ranked(lambda g: worth(g, key_whole, None), best, lambda done: tell(len(found) + done, total))[0].genotype


def _ranked(worth: Callable[[Genotype], Any], found: list[Genotype], tell: Callable[[int], None]) -> list[Scored]:
    """By what they are worth, best first; of equals the first."""
    scored = []
    for done, genotype in enumerate(found, start=1):
        scored.append(Scored(genotype, float(worth(genotype))))
        tell(done)
    return sorted(scored, key=lambda one: -one.score)
