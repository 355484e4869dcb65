"""The only loop over epochs: runs a search, shows it, and writes everything down.

Where in the river: around it. Owns clocks, folders and progress; no mathematics.
"""

import dataclasses
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import Array
from rich.console import Console

from jaxnas import checkpoint, folder, progress
from jaxnas.data import Split
from jaxnas.epoch import Diverged, Program, compile_epoch, on_device, run_epoch
from jaxnas.folder import Record
from jaxnas.hypergradient import Batches
from jaxnas.search import Augment, Search, SearchState, bind
from jaxnas.spaces.genotype import Genotype, to_json
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.stages import Stage
from jaxnas.strategies.penalty import mean_entropy

# weights are drawn once: compile that fast, not to fast code
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run leaves."""

    genotype: Genotype
    state: SearchState
    records: list[Record]  # one for each epoch
    folder: Path


class _Job(NamedTuple):
    """What stays the same during a run."""

    out: Path
    console: Console
    data: Batches
    batch: int
    stop: Callable[[Genotype, int], bool]
    key: Array


Finish = Callable[[Search, SearchState, Batches, Array, int], Genotype]  # (search, state, all images, key, batch)


def decoded(search: Search, state: SearchState, data: Batches, key: Array, batch: int) -> Genotype:
    """The genotype that the search's decoding reads off alpha."""
    del data, key, batch
    return search.genotype(state)


def never(genotype: Genotype, epoch: int) -> bool:
    """Runs to the last epoch."""
    del genotype, epoch
    return False


def run(
    stages: Sequence[Stage],
    space: Space,
    data: Split,
    key: Array,
    *,
    out: Path | str,
    batch: int = 64,
    augment: Augment = lambda key, images: images,
    settings: Mapping[str, Any] | None = None,
    stop: Callable[[Genotype, int], bool] = never,
    finish: Finish = decoded,
    resume: bool = False,
    console: Console | None = None,
) -> Result:
    """Searches stage by stage, epoch by epoch, and leaves a folder from which everything can be read again.

    Args:
      stages: what to run, `[Stage(strategy, epochs)]` for most.
      space: what may be built.
      data: images that move the weights (train) and alpha (valid), and held-out ones (test) that nothing here touches.
      key: weights, alpha, the order of the images and their augmentation follow from it.
      out: folder of the run; made if missing.
      batch: images in each of the two batches of a step.
      augment: (key, uint8 images [B, H, W, C]) -> float images; runs inside the step.
      settings: what else belongs into the record of the run; compared when a run is resumed.
      stop: (genotype, epoch from 1) -> True to end the stage after this epoch.
      finish: how the last state becomes the genotype of the run: decoded from alpha unless given, or `pick_shared`,
        `select_by_perturbation`. The records of the epochs hold what is decoded.
      resume: continue the run in `out`.
      console: where progress is shown; the terminal unless given.

    Raises:
      Diverged: a loss is not a number; says at which step. The state of the last finished epoch is on disk.
      ValueError: data that do not fit the space, or another configuration than that of the run to resume.
      OSError: a folder in use, not writable, or full; says what to do.
    """
    _check(space, data, batch, stages)
    out, console, began = Path(out), console or Console(), time.perf_counter()
    config = {**(settings or {}), **describe(space), "batch": batch, "split": data.digest}
    config["epochs"] = [stage.epochs for stage in stages]
    with folder.explained(out):
        (folder.check_same if resume else folder.claim)(out, config)
        records = folder.rewind(out, checkpoint.latest(out / "checkpoints") or 0) if resume else []
    job = _Job(out, console, on_device(data.train, data.valid), batch, stop, key)
    seconds = {"compile": 0.0, "run": sum(record["seconds"] for record in records)}
    scores, last = None, len(stages) - 1
    for index, stage in enumerate(stages):
        space = stage.reshape(space, scores)
        mine = [record for record in records if record["stage"] == index]
        if mine and mine[-1]["stage_ended"] and index < last:  # over before we resumed: only its scores count
            scores = _scores_after(out, mine[-1]["epoch"])
            continue
        search = bind(stage.strategy, space, augment=augment)
        program, state = _prepare(job, search, index, mine, seconds)
        state = _run_stage(job, search, program, state, space, stage, index, records, seconds)
        scores = jax.device_get(search.scores(state))
    began_finish = time.perf_counter()
    genotype = finish(search, state, job.data, jax.random.fold_in(key, len(stages)), batch)
    seconds["run"] += time.perf_counter() - began_finish
    with folder.explained(out):
        folder.write(out / "genotype.json", to_json(genotype) + "\n")
        pictures = folder.draw(out, space, records, genotype)
        seconds["total"] = time.perf_counter() - began
        summary = {**environment(), "config": config, "genotype": json.loads(to_json(genotype)), "last": records[-1]}
        summary |= {"seconds": seconds, "memory_bytes": {**program.memory_bytes, "peak": peak_memory()}}
        folder.write(out / "result.json", json.dumps(summary, indent=2) + "\n")
    progress.show_end(console, out, genotype, seconds, pictures)
    return Result(genotype=genotype, state=state, records=records, folder=out)


def _prepare(job: _Job, search: Search, index: int, mine: list[Record], seconds) -> tuple[Program, SearchState]:
    """The compiled epoch, and the state to start from: drawn, or as it was saved."""
    with progress.waiting(job.console, "compiling the search step (once; the next start finds it in the cache)"):
        began = time.perf_counter()
        if mine:
            like = jax.eval_shape(search.init, job.key)
            state = checkpoint.restore(job.out / "checkpoints", mine[-1]["epoch"], like)
        else:
            init = jax.jit(search.init).lower(job.key).compile(compiler_options=QUICK)
            state = init(jax.random.fold_in(job.key, index))
        program = compile_epoch(search, job.data, job.batch)
        seconds["compile"] += time.perf_counter() - began
    return program, state


def _run_stage(job, search, program, state, space, stage: Stage, index: int, records: list[Record], seconds):
    """Runs what is left of a stage; `records` and `seconds` grow."""
    done = sum(record["stage"] == index for record in records)
    ended = bool(done) and records[-1]["stage_ended"]
    key_order = jax.random.fold_in(jax.random.fold_in(job.key, index), 1)
    with progress.shown(job.console, program.steps, stage.epochs) as show:
        while not ended:
            epoch, began = len(records) + 1, time.perf_counter()
            key_epoch, tell = jax.random.fold_in(key_order, done), show.epoch(done + 1)
            try:
                state, means = run_epoch(program, state, job.data, key_epoch, tell)
            except Diverged as error:
                raise Diverged(_last_words(error, job.out, epoch)) from None
            done += 1
            elapsed = time.perf_counter() - began
            seconds["run"] += elapsed
            scores, genotype = jax.device_get(search.scores(state)), search.genotype(state)
            ended = done >= stage.epochs or bool(job.stop(genotype, done))
            record = {"epoch": epoch, "stage": index, "step": int(state.bilevel.step), "stage_ended": ended}
            record |= measures(means, scores, genotype) | {"seconds": elapsed}
            record["images_per_second"] = program.steps * job.batch * len(means) / elapsed
            record["genotype"] = json.loads(to_json(genotype))
            with folder.explained(job.out):
                folder.append(job.out, record, scores)
                checkpoint.save(job.out / "checkpoints", epoch, state)
            records.append(record)
            show.row(record)
    return state


def measures(means: Mapping[str, Mapping[str, float]], scores: CellGates, genotype: Genotype) -> Record:
    """Losses, accuracies and gradient norms of both players, alpha's entropy in nats, and skips in the genotype."""
    flat = {f"{player}_{name}": value for player, found in means.items() for name, value in found.items()}
    entropy = sum(float(mean_entropy(gates)) for gates in scores.values()) / len(scores)
    return {**flat, "alpha_entropy": entropy, "skips": genotype.count("skip_connect")}


def describe(space: Space) -> dict[str, Any]:
    """A space as plain data, for the record of a run."""
    masks = {cell: space.mask(cell).astype(int).tolist() for cell in space.cells} if space.alive else None
    skeleton = [f"{layer.cell} {layer.channels}" + " /2" * (layer.stride > 1) for layer in space.skeleton]
    told = {"name": space.name, "ops": list(space.op_names), "skeleton": skeleton, "image": list(space.image)}
    return {"space": {**told, "classes": space.classes, "alive": masks}}


def environment() -> dict[str, Any]:
    """Versions and devices that a result was made with."""
    packages = ("jaxnas", "jax", "jaxlib", "flax", "optax", "numpy")
    devices = jax.devices()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "devices": {
            "kind": devices[0].device_kind,
            "platform": devices[0].platform,
            "used": 1,
            "present": len(devices),
        },
        "machine": {"system": platform.platform(), "processor": platform.machine()},
    }


def peak_memory() -> int:
    """Largest memory so far, bytes: of the device where it tells, else of this process."""
    stats = jax.devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(stats.get("peak_bytes_in_use", resident))


def _scores_after(out: Path, epoch: int) -> CellGates:
    """The scores at the end of an epoch, from disk; edge gates are folded into them."""
    tables = {cell: table[epoch - 1] for cell, table in folder.read_scores(out).items()}
    return {cell: Gates(table, table[:, 0] * 0 + 1) for cell, table in tables.items()}


def _last_words(error: Diverged, out: Path, epoch: int) -> str:
    kept = (
        f"the state after epoch {epoch - 1} is kept in {out / 'checkpoints'}" if epoch > 1 else "no epoch was finished"
    )
    return f"{error}, in epoch {epoch}; {kept}. Look at the images' scale and labels, or lower the learning rate."


def _check(space: Space, data: Split, batch: int, stages: Sequence[Stage]) -> None:
    for name, half in (("train", data.train), ("valid", data.valid)):
        shape = tuple(half.image.shape[1:])
        if shape != space.image:
            raise ValueError(
                f"{name} images are {shape}, the space is built for {space.image}: build it with image={shape}."
            )
        if int(half.label.min()) < 0 or int(half.label.max()) >= space.classes:
            worst = int(half.label.max() if half.label.min() >= 0 else half.label.min())
            raise ValueError(f"{name} label {worst} is outside the {space.classes} classes of the space.")
    if batch < 1 or not stages or any(stage.epochs < 1 for stage in stages):
        raise ValueError(f"batch={batch}, epochs={[stage.epochs for stage in stages]}: all must be at least 1.")
