"""Learning rates, temperatures and dropouts by epoch."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
from parity_lines import Line, close

from jaxnas.strategies.optimizers import annealed, cosine, linear, linear_with_tail, stairs, two_phase, warmed_up


def schedules_file(data: Mapping) -> Iterator[Line]:
    """Every series of the file, with one step in an epoch and with seven."""
    for name, theirs in data["cosine_lr"].items():
        ends = re.search(r"\(([\d.]+)->([\d.]+)", name).groups()
        yield from in_steps(f"cosine {name}", partial(cosine, *map(float, ends)), theirs)
    for name, theirs in data.get("GDAS_tau", {}).items():
        if name != "formula":
            ends = re.match(r"tau_([\d.]+)_to_([\d.]+)_", name).groups()
            yield from in_steps(f"GDAS {name}", partial(linear, *map(float, ends)), theirs)
    for name, theirs in data.items():
        if name.startswith("SNAS_temperature"):
            yield from in_steps(name, partial(annealed, 1.0, 0.03), theirs["values_used_in_epoch"])
    yield from skip_dropout_lines(data.get("PDARTS_skip_dropout", {}))
    for name, theirs in (*data.items(), *data.get("drop_path_prob", {}).items()):
        if isinstance(theirs, list):
            yield from in_steps(name, by_epoch(name), theirs)


def by_epoch(name: str) -> Callable[..., optax.Schedule]:
    """(steps, every=) -> the schedule behind a plain series: rates on ImageNet, drop path."""
    x = [float(number) for number in re.findall(r"0\.\d+", name)]
    known = {
        "PCDARTS_search_imagenet_lr": lambda steps, every: warmed_up(cosine(0.5, 0.0, steps, every), every),
        "step_lr_imagenet": lambda steps, every: stairs(optax.exponential_decay(x[0], 1, x[1]), every),
        "linear": lambda steps, every: stairs(linear_with_tail(x[0], steps // every), every),
        "eval_cifar": lambda steps, every: stairs(optax.linear_schedule(0.0, x[0], steps // every), every),
        "imagenet": lambda steps, every: stairs(optax.constant_schedule(0.0), every),
    }
    make = next(known[key] for key in known if key in name)
    warm = "with_5_epoch_warmup" in name
    return lambda steps, every: warmed_up(make(steps, every), every) if warm else make(steps, every)


def skip_dropout_lines(data: Mapping) -> Iterator[Line]:
    """The rate behind skips of P-DARTS by stage and epoch."""
    for name, stages in data.items():
        if isinstance(stages, Mapping):
            first = int(np.array(data["train_arch"]).argmax())  # the full rate is reached where alpha begins to move
            for stage, theirs in stages.items():
                yield from in_steps(
                    f"skip dropout {name}, {stage}", partial(skip_dropout, theirs[first], first), theirs
                )


def skip_dropout(rate: float, rest: int, steps: int, every: int) -> optax.Schedule:
    return two_phase(rate, steps, rest * every, every)


def in_steps(name: str, schedule: Callable[..., optax.Schedule], theirs: list[float]) -> Iterator[Line]:
    """A schedule of (steps, every=) against one value for each epoch."""
    for each in (1, 7):
        value = schedule(len(theirs) * each, every=each)
        ours = [[value(jnp.int64(e * each + i)) for i in range(0, each, 3)] for e in range(len(theirs))]
        yield close(f"{name}, {each} steps an epoch", ours, np.repeat(np.array(theirs)[:, None], len(ours[0]), 1))
