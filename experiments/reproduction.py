"""What every reproduction is made of: the record of its settings, and the way from there to a number.

A file of this folder spells out a paper's settings in `recipe`; here they are run: search, then retraining, then one
look at the test images. `result.json` holds what was measured beside what the paper says: errors, sizes and times as
table 2 of a review cites them (Li et al. 2022, Journal of Software 33(1)), n and other numbers as the official code's
documents do.

What all of them do otherwise than the papers, and do not repeat:

* one search for each seed and one training of what it found; no best of several, unless the file says so;
* the test images are looked at once, after the last epoch, and no best epoch is taken;
* the halves of the training images are drawn at random, and alpha's batches walk through their half;
* the last batch of an epoch is filled up; pixels are normalised by their own mean and deviation;
* CIFAR is what TensorFlow Datasets prepared: where its images went through JPEG, errors are of those images.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from inspect import getfile, signature
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import Array
from rich.console import Console

from experiments.scale import Scale
from jaxnas import augmentation, cli_tables, data
from jaxnas.cache import keep_programs
from jaxnas.data import Batch, Dataset, Split
from jaxnas.epoch import Diverged, steps_per_epoch
from jaxnas.evaluation import benchmark
from jaxnas.evaluation.random_search import random_search
from jaxnas.evaluation.recipes import Recipe, fitted
from jaxnas.folder import check_same, claim, read_genotype, write
from jaxnas.record import environment
from jaxnas.retraining import fit
from jaxnas.robust import grid
from jaxnas.runner import run
from jaxnas.spaces.genotype import Genotype, to_json
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.decoding import Decode
from jaxnas.strategies.strategy import Strategy


class Expected(NamedTuple):
    """What the paper says; None where it says nothing, or where nobody has looked it up."""

    error: float | None = None  # %, of the test images
    deviation: float | None = None  # its s.d.
    runs: int | None = None  # n
    parameters: float | None = None  # millions
    days: float | None = None  # of one GPU, for the search


class Task(NamedTuple):
    """One run of a reproduction."""

    name: str  # of its file, and the variant
    out: Path
    seed: int
    data_dir: Path | None
    whole: Dataset
    parts: Split
    console: Console

    @property
    def key(self) -> Array:
        """Everything random follows from it."""
        return jax.random.key(self.seed)


# -------------------------------------------------------------------------------------- how a genotype is found


def searched(it: "Reproduction", task: Task) -> Genotype:
    """The answer of one search."""
    place = task.out / "search"
    if (place / "result.json").exists():
        return read_genotype(str(place))
    settings = _settings(it, task)
    settings["resume"] = (place / "config.json").exists()
    return run(it.stages, it.space, task.parts, task.key, out=place, **settings, **it.options).genotype


def picked(training: Recipe) -> "Find":
    """One search for each row of the grid; the best by validation, each answer trained alone on the other half."""

    def find(it: "Reproduction", task: Task) -> Genotype:
        score = lambda result: validated(it, task, result.folder.name, result.genotype, training)
        epochs, place = it.at.epochs, task.out / "search"
        options = {**_settings(it, task), **it.options, "score": score}
        return grid(it.grid, epochs, it.space, task.parts, task.key, out=place, **options).result.genotype

    return find


def drawn(n: int, decode: Decode, training: Recipe) -> "Find":
    """The best of n random genotypes by validation, each trained alone on the other half."""

    def find(it: "Reproduction", task: Task) -> Genotype:
        names = iter(range(n))
        score = lambda genotype: validated(it, task, str(next(names)), genotype, training)
        return random_search(score, task.key, it.space, n, decode)[0].genotype

    return find


def validated(it: "Reproduction", task: Task, name: str, genotype: Genotype, training: Recipe) -> float:
    """Accuracy on the validation half after training on the other half; the test images are not looked at."""
    place, parts = task.out / "validation" / name, task.parts
    halves = parts._replace(valid=Batch(*(leaf[:0] for leaf in parts.valid)), test=parts.valid)
    training = fitted(training, task.whole)
    return _trained(it, task, place, genotype, training, halves, "the validation half")["test"]["accuracy"]


# --------------------------------------------------------------------------------------- what a genotype is worth


def retrained(it: "Reproduction", task: Task, genotype: Genotype) -> Mapping[str, Any]:
    """Its network, trained from scratch on all training images."""
    name = it.retrained_on or it.dataset
    whole = it.at.load(name, task.data_dir, it.network, 1.0) if it.retrained_on else task.whole
    told = _trained(it, task, task.out / "retraining", genotype, fitted(it.training, whole), whole, name)
    error, size = 100 * (1 - told["test"]["accuracy"]), told["cost"]["parameters"]
    return {"error": error, "parameters": size, "seconds": told["seconds"]["total"]}


def looked_up(table: Path) -> "Worth":
    """What a table of NAS-Bench-201 says: the test images after the longest training."""

    def worth(it: "Reproduction", task: Task, genotype: Genotype) -> Mapping[str, Any]:
        entry = benchmark.read(table).look_up(genotype, dataset=it.dataset)
        longest = max(epochs for part, epochs in entry.accuracy if part == "test")
        error = 100 * (1 - entry.accuracy["test", longest])
        return {"error": error, "parameters": entry.parameters, "seconds": None}

    return worth


def _trained(it: "Reproduction", task: Task, place: Path, genotype: Genotype, training: Recipe, images, tests: str):
    """The record of a training; one that is over is not run again."""
    if not (place / "result.json").exists():
        settings = {"label": task.name, "dataset": it.retrained_on or it.dataset, "seed": task.seed, "tests": tests}
        more = {"search": cli_tables.searched(task.out / "search") or None, "console": task.console}
        more["resume"] = (place / "config.json").exists()
        fit(genotype, it.network, training, images, task.key, out=place, settings=settings, **more)
    return json.loads((place / "result.json").read_text(encoding="utf-8"))


def _settings(it: "Reproduction", task: Task) -> dict[str, Any]:
    settings = {"strategy": task.name, "dataset": it.dataset, "seed": task.seed, "fraction": it.fraction}
    augment = augmentation.default_augmentation(task.whole, augmentation.statistics(task.parts.train))
    return {"batch": it.at.batch, "augment": augment, "settings": settings, "console": task.console}


Find = Callable[["Reproduction", Task], Genotype]
Worth = Callable[["Reproduction", Task, Genotype], Mapping[str, Any]]  # {"error": %, "parameters", "seconds"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What is run: all that a paper fixes."""

    at: Scale
    expected: Expected
    dataset: str
    stages: tuple[Stage, ...] = ()  # of the search; none where nothing is learnt
    grid: Mapping[str, Strategy] = dataclasses.field(default_factory=dict)  # rows of which one is picked
    space: Space
    network: Space  # in which the answer is trained
    training: Recipe
    retrained_on: str | None = None  # a data set; that of the search unless given
    fraction: float = 1.0  # of the training images that are used in the search
    valid_fraction: float = 0.5  # of these, for alpha; 0: one loss moves both players, on all of them
    find: Find = searched
    worth: Worth = retrained
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of `jaxnas.run`: stop, watch, finish


# ------------------------------------------------------------------------------------------------------ one run


def reproduce(
    it: Reproduction,
    name: str,
    *,
    out: Path,
    seed: int = 0,
    data_dir: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Searches, measures the answer once, and leaves `result.json`: the promise beside what was measured.

    Args:
      it: what.
      name: of the file, and the variant behind a space.
      out: folder; search, trainings and result lie in it.
      seed: everything random follows from it.
      data_dir: folder with prepared data sets.
      resume: continue the run in `out`; what is over in it is not run again.
      console: where progress is shown.

    Raises:
      ValueError: for images of which another number of steps makes an epoch than the recipe says.
      OSError: a folder in use, or not writable.
    """
    whole = it.at.load(it.dataset, data_dir, it.space, it.fraction * (1 - it.valid_fraction))
    parts = divided(it, whole, seed)
    settings = {"experiment": name, "seed": seed, "dataset": it.dataset, "smoke": it.at.smoke, "split": parts.digest}
    (check_same if resume else claim)(out, settings)
    task = Task(name, out, seed, data_dir, whole, parts, console or Console())
    genotype = it.find(it, task)
    measured = dict(it.worth(it, task, genotype)) | {"search_seconds": _spent(out)}
    told = {**settings, "expected": it.expected._asdict(), "measured": measured, **environment()}
    told["genotype"] = json.loads(to_json(genotype))
    write(out / "result.json", json.dumps(told, indent=2) + "\n")
    return told


def divided(it: Reproduction, whole: Dataset, seed: int) -> Split:
    """The images of the search: for the weights, for alpha, and the test images, which it never sees."""
    if it.valid_fraction:
        parts = data.split(whole, seed=seed, fraction=it.fraction, valid_fraction=it.valid_fraction)
    else:  # one loss: the solver never looks at the other part, which must not be empty
        parts = data.whole(whole, seed=seed, fraction=it.fraction)
        parts = parts._replace(valid=Batch(*(leaf[: it.at.batch] for leaf in parts.train)))
    steps = steps_per_epoch(len(parts.train.label), it.at.batch)
    if steps != it.at.steps:
        told = f"{len(parts.train.label)} images of {it.dataset} in batches of {it.at.batch} are {steps} steps"
        raise ValueError(f"{told}, the recipe counts {it.at.steps}: give the data set that it is made for.")
    return parts


def _spent(out: Path) -> float:
    """Seconds of all searches and of the trainings by which one was picked."""
    records = [json.loads(path.read_text()) for part in ("search", "validation") for path in _results(out / part)]
    return sum(record["seconds"]["total"] for record in records)


def _results(place: Path) -> list[Path]:
    return sorted(place.rglob("result.json"))


def main(doc: str, recipe: Callable[..., Reproduction], expected: Expected | Mapping[str, Expected], *paths: str):
    """Runs a file of this folder from the command line.

    Args:
      doc: its docstring.
      recipe: (smoke, variant, paths) -> what is run.
      expected: for each variant, where there are several: the first is run unless another is asked for.
      paths: arguments of `recipe` that are paths, each an option.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    chosen = [list(signature(recipe).parameters)[1]] if isinstance(expected, Mapping) else []
    asked = _asked(parser, {name: list(expected) for name in chosen}, paths)
    name = " ".join([Path(getfile(recipe)).stem, *(asked[name] for name in chosen)])
    out = asked["out"] or Path("runs") / f"{name.replace(' ', '-')}-{asked['seed']}"
    keep_programs()
    try:
        it = recipe(asked["smoke"], **{name: asked[name] for name in (*chosen, *paths)})
        told = reproduce(it, name, out=out, **{name: asked[name] for name in ("seed", "data_dir", "resume")})
    except (ValueError, OSError, Diverged) as error:
        parser.exit(1, f"{getattr(error, 'strerror', None) or error}\n")
    except KeyboardInterrupt as error:
        parser.exit(130, f"{str(error) or 'stopped'}; repeat the command with --out {out} --resume to go on.\n")
    promised = told["expected"]["error"]
    print(f"{name}: {told['measured']['error']:.2f} % test error, the paper's {promised or 'is not known'}; {out}")


def _asked(parser: argparse.ArgumentParser, choices: Mapping[str, list[str]], paths: tuple[str, ...]) -> dict[str, Any]:
    """What the command line says, by the name of the option."""
    for name, of in choices.items():
        parser.add_argument(f"--{name}", choices=of, default=of[0])
    for path in ("data-dir", "out", *paths):
        parser.add_argument(f"--{path}", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="everything random follows from it")
    parser.add_argument("--smoke", action="store_true", help="a few steps on noise, to see that everything runs")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    asked = vars(parser.parse_args())
    if asked["resume"] and asked["out"] is None:
        parser.error("--resume continues the run in a folder: name it with --out.")
    return asked
