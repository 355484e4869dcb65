"""Several seeds of one planned search: in one program where its shapes stay, seed by seed where they do not.

Shared by the studies beside it.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track

from jaxnas.epoch import batches_of, on_device, steps_per_epoch, stretch
from jaxnas.planning import Plan, carry_out
from jaxnas.runner import run
from jaxnas.search import bind
from jaxnas.seeds import mapped, over_seeds, seed
from jaxnas.spaces.genotype import Genotype, from_json
from jaxnas.strategies.penalty import mean_entropy

following = partial(track, console=Console(stderr=True))  # (things, what they are): shows how far they are


class Found(NamedTuple):
    """What one seed found."""

    genotypes: Sequence[Genotype]  # after each epoch, and the answer
    entropy: float  # of alpha at the end, nats


def together(planned: Plan, seeds: int) -> list[Found]:
    """All seeds of a search of one stage in one program, one after another in a loop; all see the same images.

    Raises:
      ArithmeticError: a loss is not a number.
    """
    (stage,), batch = planned.stages, planned.batch
    search = bind(stage.strategy, planned.space, augment=planned.augment)
    many, images, keys = over_seeds(search, mapped), on_device(*planned.data[:2]), seeds_of(planned, seeds)
    steps, step = steps_per_epoch(len(planned.data.train.label), batch), jax.jit(search.step)

    def epoch(images, state, key):
        batches = batches_of(images, key, batch)
        look = lambda state: (state.bilevel.step, state.bilevel.alpha)
        return stretch(step, batches, state, jnp.int32(0), jnp.int32(steps), look)

    run_all = jax.jit(lambda images, *rest: mapped(partial(epoch, images))(*rest), donate_argnums=1)
    states, found = jax.jit(many.init)(keys), []
    for number in following(range(stage.epochs), "epochs, all seeds at once"):
        states, _, bad = run_all(images, states, jax.vmap(jax.random.fold_in, (0, None))(keys, number))
        if (np.asarray(bad) >= 0).any():
            raise ArithmeticError(f"a loss is not a number: first bad steps of the seeds {bad.tolist()}, -1 is none.")
        found.append(many.genotypes(states))
    scores = jax.device_get(many.scores(states))
    entropy = lambda i: float(np.mean([mean_entropy(seed(gates, i)) for gates in scores.values()]))
    answer = partial(answered, planned, search, images)
    return [Found([*(one[i] for one in found), answer(seed(states, i), keys[i])], entropy(i)) for i in range(seeds)]


def seeds_of(planned: Plan, seeds: int) -> jax.Array:
    """Keys [S]: those of the plan's seed and the next ones."""
    return jax.vmap(jax.random.key)(planned.seed + jnp.arange(seeds))


def answered(planned: Plan, search, images, state, key) -> Genotype:
    """The genotype at the end: decoded from alpha, or as the row says."""
    return planned.finish(search, state, images, jax.random.fold_in(key, 1), planned.batch, lambda done, of: None)


def alone(plans: Sequence[Plan]) -> list[Found]:
    """One plan for each seed, each as the command line runs it."""
    found = []
    for planned in following(plans, "seeds"):
        with tempfile.TemporaryDirectory() as folder:
            result = carry_out(planned, run, out=Path(folder), resume=False, console=Console(quiet=True))
        after = [from_json(json.dumps(record["genotype"])) for record in result.records]
        found.append(Found([*after, result.genotype], result.records[-1]["alpha_entropy"]))
    return found
