"""From what is written on the command line to values: a search that can be run, a genotype.

Where in the river: behind the shore. Knows the names of `names.py`; prints nothing, runs nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from jaxnas import augmentation, parallel
from jaxnas import data as data_sets
from jaxnas.choices import SAMPLES, SHORT
from jaxnas.data import Split
from jaxnas.datasets.pictures import Tell, silent
from jaxnas.epoch import steps_per_epoch
from jaxnas.evaluation.cost import supernet_cost, total
from jaxnas.evaluation.diagnostics import Watch, spectrum
from jaxnas.evaluation.stopping import Rule
from jaxnas.folder import read_genotype
from jaxnas.names import (
    DEVICES,
    FINISH,
    HALVES,
    LAYOUTS,
    PRECISIONS,
    PUBLISHED,
    SPACES,
    STAGES,
    STOPPED,
    STOPS,
    STRATEGIES,
    SpaceChoice,
)
from jaxnas.options import given_or, refuse
from jaxnas.precision import PRODUCTS, Precision
from jaxnas.reading import read
from jaxnas.runner import Finish, decoded
from jaxnas.search import Augment
from jaxnas.settings import Made, made, of_stages
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.layout import Layout
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.decoding import Decode
from jaxnas.strategies.strategy import Strategy


class Plan(NamedTuple):
    """A search before it runs."""

    stages: Sequence[Stage]
    space: Space
    data: Split
    seed: int
    batch: int
    augment: Augment
    settings: Mapping[str, Any]  # for the record
    stop: Rule
    watch: Watch | None
    finish: Finish
    placement: parallel.Placement
    precision: Precision
    layout: Layout | None
    decode: Callable[[Decode], Decode]  # a rule of decoding -> the same for this space
    made: Made  # the stages' numbers
    told: str  # what will be done, without the full stop


def plan(
    strategy: str,
    space: str = "darts",
    *,
    dataset: str = "digits",
    data_dir: Path | None = None,
    epochs: int = 10,
    batch: int = 64,
    channels: int = 4,
    depth: int | None = None,
    alpha_rate: float | None = None,
    stop: str | None = None,
    curvature: int | None = None,
    samples: int | None = None,
    fraction: float = 1.0,
    seed: int = 0,
    smoke: bool = False,
    placement: parallel.Placement | None = None,
    precision: str = "float32",
    matmul_precision: str | None = None,
    layout: str = "auto",
    changes: Mapping[str, Any] | None = None,
    tell: Tell = silent,
) -> Plan:
    """A search from names and numbers; the options are those of `jaxnas search`, but it lies on one device unless told.

    Args:
      changes: numbers of the row by name, `--set` of the command line: `{"weights.rate": 0.05}`.
      tell: called with (what is done, how many, of how many) while images are read.

    Raises:
      ValueError: for names that nothing is called, and numbers that do not fit.
    """
    refuse(epochs=epochs, batch=batch, channels=channels, depth=depth, alpha_rate=alpha_rate, curvature=curvature)
    refuse(samples=samples, fraction=fraction, seed=seed, dataset=dataset, stop=stop)
    chosen, row = named(SPACES, space, "space"), named(STRATEGIES, strategy, "strategy")
    numbers, how = precision_of(precision, matmul_precision), named(LAYOUTS, layout, "layout")
    stop = given_or(stop, STOPPED.get(strategy, "never"))
    rule, watch = named(STOPS, stop, "rule to stop by"), _watch(stop, curvature)
    whole, placement = data_sets.opened(dataset, data_dir, tell), placement or parallel.one()
    if smoke:
        epochs, batch, fraction = 1, placement.at_least(4), min(fraction, 16 / len(whole.train.label))
        samples = given_or(samples, 10 if strategy in FINISH else None)
    row, depth = partial(row, **chosen.settings.get(row, {})), given_or(depth, chosen.depth)
    parts, statistics = read(data_sets.split(whole, seed=seed, fraction=fraction), placement, tell)
    make = partial(chosen.make, classes=whole.classes, image=whole.train.image.shape[1:])
    growth = STAGES[strategy].growth if strategy in STAGES else (1,)
    spaces = [make(channels, round(depth * part)) for part in growth]
    steps = steps_per_epoch(len(parts.train.label), batch)
    usual = signature(row).parameters["alpha_rate"].default * (1 if epochs * steps >= SHORT else 10)
    rate, dataset = given_or(alpha_rate, usual), data_sets.spelt(dataset, whole)
    build = partial(_stages, strategy, row, chosen, spaces, rate)
    numbered = made(build, _of_stages(strategy, chosen), changes or {}, steps, epochs)
    rate = _rate(numbered, changes or {}, alpha_rate, rate)
    finish, asked = _finish(strategy, samples, epochs * steps)
    staged = f" in each of {len(numbered.stages)} stages" if len(numbered.stages) > 1 else ""
    first, second = HALVES.get(strategy, ("move the weights", "alpha"))
    told = {"strategy": strategy, "dataset": dataset, "seed": seed, "fraction": fraction, "channels": channels}
    return Plan(
        stages=numbered.stages,
        space=spaces[0],
        data=parts,
        seed=seed,
        batch=batch,
        augment=augmentation.default_augmentation(whole, statistics),
        settings={**told, **asked, "depth": depth, "alpha_rate": rate, "stop": stop},
        stop=rule,
        watch=watch,
        finish=finish,
        placement=placement,
        precision=numbers,
        layout=how,
        decode=chosen.decode,
        made=numbered,
        told=(
            f"{strategy} on {dataset}: {len(parts.train.label)} images {first}, {len(parts.valid.label)} {second}; "
            f"{total(supernet_cost(spaces[0])).parameters:,} weights, {len(spaces[0].skeleton)} layers, {epochs} "
            f"epochs of {steps} steps{staged}, "
            f"alpha's rate {rate:g}{in_words(numbers)}"
        ),
    )


def carry_out(
    planned: Plan, run: Callable[..., Any], *, out: Path, resume: bool, console: Console, **options: Any
) -> Any:
    """Gives a plan to `runner.run`, with more of its options."""
    kept = planned._asdict()
    names = ("batch", "augment", "settings", "stop", "watch", "finish", "placement", "precision", "layout")
    options |= {name: kept[name] for name in names} | {"out": out, "resume": resume, "console": console}
    return run(planned.stages, planned.space, planned.data, jax.random.key(planned.seed), **options)


def placed(devices: str, distributed: bool, out: Path | None) -> parallel.Placement:
    """Where a search lies; where it has several processes, this one joins them.

    Raises:
      ValueError: for a name that no placement has, and for processes without a common folder.
    """
    if distributed and out is None:
        raise ValueError("--distributed needs a folder that all processes see: name it with --out.")
    place = named(DEVICES, devices, "placement on devices")
    if distributed:
        parallel.join()
    return place()


def precision_of(name: str, products: str | None = None) -> Precision:
    """The precision of a name, with other products where these are named too.

    Raises:
      ValueError: for names that there are not.
    """
    found = named(PRECISIONS, name, "precision")
    if products is not None:
        named(PRODUCTS, products, "precision of products (--matmul-precision)")
    return found._replace(products=given_or(products, found.products))


def in_words(precision: Precision) -> str:
    """What stands behind a run's first line: nothing in float32."""
    told = f"; activations in {precision.activations}, products of float32 in {precision.products}"
    return "" if precision.exact else told


def named(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """What a name stands for.

    Raises:
      ValueError: for a name that is not in the table; says which are, and which is near.
    """
    if name not in table:
        near = get_close_matches(name.lower(), table, n=2)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"no {kind} is called {name!r}; choose one of {', '.join(table)}.{meant}")
    return table[name]


def genotype_of(what: str) -> Genotype:
    """A genotype from a published name, a run's folder, a file, or the text itself.

    Raises:
      FileNotFoundError: for a folder without one.
      ValueError: where it is none of these; says what is wrong, and which names are near.
    """
    if what in PUBLISHED:
        return PUBLISHED[what]
    if not what.strip():
        raise ValueError(
            f"the genotype {what!r} is empty: give a run's folder, a file, a text, or a name such as DARTS_V2."
        )
    if re.fullmatch(r"[\w./-]+", what) and not what.isdecimal() and not Path(what).exists():
        plain = lambda name: re.sub(r"\W|_", "", name.lower())
        if spelt := [name for name in PUBLISHED if plain(name) == plain(what)]:
            return PUBLISHED[spelt[0]]
        near = get_close_matches(what.upper(), PUBLISHED, n=3) or PUBLISHED
        raise ValueError(f"{what!r} is no run, no file, and no published genotype; near it: {', '.join(near)}.")
    return read_genotype(what)


def _stages(name: str, row: Callable[..., Strategy], chosen: SpaceChoice, spaces, rate, steps, epochs, **own: Any):
    """The stages of a search of so many steps in an epoch, and epochs; what differs between them may be given."""
    if name in STAGES:
        make = STAGES[name].make
        stages = make(spaces, steps, epochs, alpha_rate=rate, **{**chosen.settings.get(make, {}), **own})
    else:
        stages = [Stage(row(epochs * steps, every=steps, alpha_rate=rate), epochs)]
    return [_decoding(stage, chosen) for stage in stages]


def _of_stages(name: str, chosen: SpaceChoice) -> Mapping[str, tuple]:
    make = STAGES[name].make if name in STAGES else None
    return of_stages(make, chosen.settings.get(make, {}) if make else {})


def _rate(numbered: Made, changes: Mapping[str, Any], given: float | None, usual: float) -> float:
    """The learning rate of alpha, which has two names."""
    if "alpha.rate" in changes and given not in (None, changes["alpha.rate"]):
        raise ValueError(f"--alpha-rate {given} and --set alpha.rate={changes['alpha.rate']} are one number: give one.")
    return numbered.values.get("alpha.rate", usual)


def _finish(name: str, samples: int | None, steps: int) -> tuple[Finish, dict[str, int]]:
    """How the run ends, and what the record says about it."""
    if name not in FINISH:
        if samples is not None:
            raise ValueError(f"--samples is for {', '.join(FINISH)}: {name} decodes alpha: leave it out.")
        return decoded, {}
    least, most, each = SAMPLES
    samples = given_or(samples, min(max(least, steps // each), most))
    return FINISH[name](samples=samples), {"samples": samples}


def _decoding(stage: Stage, chosen: SpaceChoice) -> Stage:
    return stage._replace(strategy=stage.strategy.replace(decode=chosen.decode(stage.strategy.decode)))


def _watch(stop: str, every: int | None) -> Watch | None:
    every = (2 if stop == "sharp-rise" else 0) if every is None else every
    if stop == "sharp-rise" and not every:
        raise ValueError("--stop sharp-rise looks at the curvature: leave out --curvature 0.")
    return Watch(spectrum, every) if every else None
