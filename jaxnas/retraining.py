"""The loop that trains a found network from scratch, shows it, and writes everything down.

Where in the river: around its end. Owns clocks, folders and progress, as `runner` does for a search; no mathematics.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from rich.console import Console

from jaxnas import augmentation, checkpoint, folder, progress, reports, terminal
from jaxnas.cache import keep_programs
from jaxnas.data import Batch, Dataset, Split, whole
from jaxnas.epoch import Diverged, Program, compile_init, run_epoch
from jaxnas.evaluation.cost import genotype_cost, total
from jaxnas.evaluation.export import flatten
from jaxnas.evaluation.recipes import Recipe, augment, describe, rates
from jaxnas.evaluation.training import Test, Training, TrainState, bind, compile_epoch, compile_test, told
from jaxnas.feeding import Chunks, placed
from jaxnas.folder import Record
from jaxnas.parallel import Placement, one
from jaxnas.precision import FLOAT32, Precision
from jaxnas.profiling import Profile, untraced
from jaxnas.record import environment, peak_memory
from jaxnas.recovery import opened
from jaxnas.runner import Observe
from jaxnas.spaces.genotype import Genotype, to_json
from jaxnas.spaces.network import Variables, network
from jaxnas.spaces.space import Space
from jaxnas.terminal import clock, say, waiting

WEIGHTS = "weights.npz"  # the trained arrays by name, once the training is over


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a retraining leaves."""

    variables: Variables  # after the last epoch
    test: dict[str, float]  # accuracy and loss on the held-out images, measured once
    records: list[Record]  # one for each epoch
    folder: Path


class _Job(NamedTuple):
    """What stays the same during a retraining."""

    out: Path
    console: Console
    recipe: Recipe
    training: Training
    program: Program
    valid: Test | None
    data: Batch | Chunks
    kept: int
    observe: Observe | None
    placement: Placement
    key: Array


def fit(
    genotype: Genotype,
    space: Space,
    recipe: Recipe,
    data: Split | Dataset,
    key: Array,
    *,
    out: Path | str,
    settings: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    statistics: augmentation.Statistics | None = None,
    kept: int = checkpoint.KEPT,
    observe: Observe | None = None,
    profile: Profile = untraced,
    placement: Placement | None = None,
    precision: Precision = FLOAT32,
    resume: bool = False,
    console: Console | None = None,
) -> Trained:
    """Trains the network of a genotype from scratch and measures it once, after the last epoch, on the test images.

    Args:
      genotype: what to build.
      space: where: `darts_network(...)`, `nas_bench_201_network(...)`, ..., with the size, classes and image.
      recipe: how to train: `recipes.cifar()`, ...; all of it is in force and on record.
      data: a `Dataset`, of which all training images train; or a `Split`, whose `valid` part is measured after each
        epoch and never chooses anything.
      key: weights, the order of the images, their augmentation and dropped edges follow from it.
      out: folder of the run; made if missing.
      settings: what else belongs into the record: label, source, dataset, fraction, seed; "network" may hold more
        about its size. Compared when a run is resumed.
      search: what is known of the search that found the genotype: strategy, seconds, devices, seed.
      statistics: of the training images, where they are known (`reading.read`); counted unless given.
      kept: states kept on disk.
      observe: called with each epoch's record, and {}, once it is on disk; as for `run`.
      profile: what watches the compiled epoch; as for `run`.
      placement: on which devices of this process: `parallel.mesh()` for all; one unless given. The tests run on one.
      precision: in which numbers the network computes, in its tests too; as for `run`.
      resume: continue the run in `out`.
      console: where progress is shown; the terminal, or one output box of a notebook, unless given.

    Raises:
      Diverged: a loss is not a number; says at which step. The state of the last finished epoch is on disk.
      ValueError: data that do not fit the space, a genotype that does not fit it, or another configuration than that
        of the run to resume.
      OSError: a folder in use, not writable, or full; says what to do.

    Reference: survey's rules of fair evaluation; quark0/darts, `cnn/train.py`.
    Deviates: the official codes measure the test images after each epoch; here that is done once.
    """
    out, console, began = Path(out), console or terminal.console(), time.perf_counter()
    parts, placement = whole(data) if isinstance(data, Dataset) else data, placement or one()
    _check(space, parts)
    precision.check()
    placement.check_batch(recipe.batch)
    with clock(console, "checking what is trained"):
        net = network(genotype, space, auxiliary=recipe.auxiliary > 0)
        jax.eval_shape(net.init, key)  # what does not fit is told here, before the folder is taken
        stats = augmentation.statistics(parts.train) if statistics is None else statistics
    config = _config(genotype, space, recipe, parts, stats, settings or {}) | {"precision": precision._asdict()}
    logged = lambda out: len(folder.read_records(out))
    with opened(out, config, resume, console, logged) as records:
        with folder.explained(out):
            folder.write(out / "genotype.json", to_json(genotype) + "\n")
        seconds = {"compile": 0.0, "run": sum(record["seconds"] for record in records)}
        before, plain = seconds["run"], precision.cast(augmentation.plain(stats))
        keep_programs()
        with (
            progress.compiling(console, "the training step"),
            precision.in_force(),
        ):  # for all that is traced and lowered
            started = time.perf_counter()
            every = -(-len(parts.train.label) // recipe.batch)
            training = bind(
                net, recipe, every, augment=precision.cast(augment(recipe, stats)), axis_name=placement.axis_name
            )
            start = _start(training, out, records, key)
            images = placed(Batch(*parts.train), placement, recipe.batch, partial(say, console))
            program = profile(compile_epoch(training, images, recipe.batch, placement, len(parts.train.label)))
            measure = lambda part, many: compile_test(net, plain, placed(Batch(*part), one(), many), many)
            held = lambda part: measure(part, min(recipe.batch, len(part.label)))
            test, valid = held(parts.test), held(parts.valid) if len(parts.valid.label) else None
            state = placement.spread(start())
            seconds["compile"] = time.perf_counter() - started
        job = _Job(
            out, console, recipe, training, program, valid, images, kept, observe, placement, jax.random.fold_in(key, 1)
        )
        state = _train(job, state, records, seconds)
        with waiting(console, "measuring the test images"):
            scores = test(state.variables)
        seconds["total"] = before + time.perf_counter() - began
        cost = total(genotype_cost(genotype, space))
        result = {"kind": "evaluation", **environment(len(placement.devices), placement.name)}
        result |= {"config": config, "search": search, "test": scores}
        result |= {"valid": _valid(records[-1]), "train": records[-1]}
        result |= {"cost": {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}, "seconds": seconds}
        result["memory_bytes"] = {**program.memory_bytes, "peak": peak_memory()}
        with folder.explained(out), clock(console, "drawing the pictures"):
            np.savez(out / "weights.part.npz", allow_pickle=False, **flatten(state.variables))
            os.replace(out / "weights.part.npz", out / WEIGHTS)
            _draw(out, genotype, records)
            if not (out / "result.json").exists():  # a run that was over keeps its own
                folder.write(out / "result.json", json.dumps(result, indent=2) + "\n")
            reports.leave(out, space)
        progress.show_trained(console, out, scores, len(parts.test.label), seconds)
        return Trained(variables=state.variables, test=scores, records=records, folder=out)


def _config(genotype: Genotype, space: Space, recipe: Recipe, parts: Split, stats, settings: Mapping[str, Any]):
    """Everything that was asked for, as plain data."""
    size = {"name": space.name, "channels": space.skeleton[0].channels, "depth": len(space.skeleton)}
    size |= {"classes": space.classes, "image": list(space.image), "auxiliary": recipe.auxiliary > 0}
    config = {"genotype": json.loads(to_json(genotype)), "label": None, "source": None, "dataset": None}
    config |= {"fraction": 1.0, "seed": None, **settings}
    config |= {"network": {**size, **settings.get("network", {})}, "recipe": describe(recipe)}
    config["images"] = {name: len(getattr(parts, name).label) for name in ("train", "valid", "test")}
    config["normalisation"] = {"mean": stats.mean.tolist(), "deviation": stats.deviation.tolist()}
    return config | {"split": parts.digest}


def _start(training: Training, out: Path, records: list[Record], key: Array) -> Callable[[], TrainState]:
    """What gives the state to start from: drawn, by a program that is compiled meanwhile, or as it was saved."""
    if records:
        like = jax.eval_shape(training.init, key)
        return lambda: checkpoint.restore(out / "checkpoints", records[-1]["epoch"], like)
    draw = compile_init(training.init, key)
    return lambda: draw(jax.random.fold_in(key, 0))


def _train(job: _Job, state: TrainState, records: list[Record], seconds: dict[str, float]) -> TrainState:
    """Runs what is left, and hands back one copy of the state; `records` and `seconds` grow."""
    epochs, program, rate = job.recipe.epochs, job.program, rates(job.recipe)
    with progress.shown_training(job.console, program.steps, epochs) as show:
        for earlier in records:
            show.row(earlier)
        for epoch in range(len(records) + 1, epochs + 1):
            began, key = time.perf_counter(), job.placement.spread(jax.random.fold_in(job.key, epoch))
            try:
                state, means = run_epoch(program, state, job.data, key, show.epoch(epoch))
            except Diverged as error:
                last = f"the state after epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
                raise Diverged(f"{error}, in epoch {epoch}; {last}. Lower the recipe's rate.") from None
            here = job.placement.single(state)
            record: Record = {"epoch": epoch, "step": int(here.step), **told(means)}
            if job.valid:
                record |= told({"valid": job.valid(here.variables)})
            record["rate"] = float(rate(np.int32(epoch - 1)))
            record["seconds"] = time.perf_counter() - began
            record["images_per_second"] = program.steps * job.recipe.batch / record["seconds"]
            seconds["run"] += record["seconds"]
            with folder.explained(job.out):
                folder.log(job.out, record)
                checkpoint.save(job.out / "checkpoints", epoch, here, kept=job.kept)
            records.append(record)
            show.row(record)
            if job.observe:
                job.observe(record, {})
    return job.placement.single(state)


def _draw(out: Path, genotype: Genotype, records: list[Record]) -> None:
    from jaxnas import drawing  # and matplotlib

    drawing.save(drawing.draw_cells(genotype), out / "cells.png")
    drawing.save(drawing.draw_curves(records), out / "curves.png")


def _valid(record: Record) -> dict[str, float] | None:
    found = {name: record[f"valid_{name}"] for name in ("accuracy", "loss") if f"valid_{name}" in record}
    return found or None


def _check(space: Space, parts: Split) -> None:
    """Refuses images and labels that the space is not built for."""
    for name in ("train", "valid", "test"):
        part = getattr(parts, name)
        if tuple(part.image.shape[1:]) != space.image:
            shape = tuple(part.image.shape[1:])
            raise ValueError(f"{name} images are {shape}, the space is built for {space.image}: give image={shape}.")
        if len(part.label) and not (part.label.min() >= 0 and part.label.max() < space.classes):
            raise ValueError(
                f"{name} labels go from {part.label.min()} to {part.label.max()}, the space has {space.classes} "
                f"classes: build it with classes={int(part.label.max()) + 1}, and number labels from 0."
            )
    if not (len(parts.train.label) and len(parts.test.label)):
        raise ValueError("a retraining needs images that train and images that test: one of the two parts is empty.")
