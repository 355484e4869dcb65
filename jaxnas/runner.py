"""The only loop over epochs: runs a search, shows it, and writes everything down.

Where in the river: around it. Owns clocks, folders and progress; no mathematics.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import Array
from rich.console import Console

from jaxnas import checkpoint, folder, parallel, progress
from jaxnas.data import Split
from jaxnas.epoch import Diverged, Program, compile_epoch, compile_measure, on_device, run_epoch
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.evaluation.stopping import Rule, Verdict, never, warnings
from jaxnas.folder import Record
from jaxnas.hypergradient import Batches
from jaxnas.record import describe, environment, measures, record_answer
from jaxnas.search import Augment, Search, SearchState, bind
from jaxnas.spaces.genotype import Genotype, from_json, to_json
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.stages import Stage

# weights are drawn once: compile that fast, not to fast code
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run leaves."""

    genotype: Genotype
    state: SearchState  # after the last epoch, also where the answer is an earlier one
    records: list[Record]  # one for each epoch
    folder: Path
    stopped: Verdict | None = None  # of the last stage: why it ended early, and which epoch is the answer


class _Job(NamedTuple):
    """What stays the same during a run."""

    out: Path
    console: Console
    split: Split
    data: Batches  # as the devices hold it
    placement: parallel.Placement
    augment: Augment
    batch: int
    stop: Rule
    watch: Watch | None
    kept: int
    key: Array


class _Compiled(NamedTuple):
    """What runs during a stage."""

    program: Program | None  # none where the stage is over
    measure: Callable[[SearchState, Batches, Array], Mapping[str, Array]] | None
    measured: tuple[str, ...]  # names


Finish = Callable[[Search, SearchState, Batches, Array, int], Genotype]  # (search, state, all images, key, batch)


def decoded(search: Search, state: SearchState, data: Batches, key: Array, batch: int) -> Genotype:
    """The genotype that the search's decoding reads off alpha."""
    del data, key, batch
    return search.genotype(state)


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
    stop: Rule = never,
    watch: Watch | None = None,
    finish: Finish = decoded,
    kept: int = checkpoint.KEPT,
    placement: parallel.Placement | None = None,
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
      stop: looks at the records of a stage after each of its epochs but the last, may end it, and says which epoch is
        the answer: `stopping.sharp_rise()` (needs a watch), `stopping.too_many_skips()`. The next stage starts from the
        scores of that epoch.
      watch: what else is measured every few epochs: `Watch(diagnostics.spectrum)`.
      finish: how the last state becomes the genotype of a run that no rule ended: decoded from alpha unless given, or
        `pick_shared`, `select_by_perturbation`. The records of the epochs hold what is decoded.
      kept: states kept on disk.
      placement: where the search runs: `parallel.mesh()` for all devices; on one unless given. Several processes call
        this with the same arguments and see the same folder; the first of them writes.
      resume: continue the run in `out`.
      console: where progress is shown; the terminal unless given.

    Raises:
      Diverged: a loss is not a number; says at which step. The state of the last finished epoch is on disk.
      ValueError: data that do not fit the space, or another configuration than that of the run to resume.
      OSError: a folder in use, not writable, or full; says what to do.
      Disagreement: alpha is not the same on all devices after an epoch.
    """
    _check(space, data, batch, stages)
    out, console, began = Path(out), console or Console(), time.perf_counter()
    config = {**(settings or {}), **describe(space), "batch": batch, "split": data.digest}
    config["epochs"] = [stage.epochs for stage in stages]
    if any(stage.settings for stage in stages):
        config["stages"] = [dict(stage.settings) for stage in stages]
    if watch:
        config["measured_every"] = watch.every
    with folder.explained(out):
        records = _opened(out, config, resume)
    placement = placement or parallel.one()
    images = Batches(*map(placement.images, data[:2]))
    job = _Job(out, console, data, images, placement, augment, batch, stop, watch, kept, key)
    seconds = {"compile": 0.0, "run": sum(record["seconds"] for record in records)}
    before, scores, last = seconds["run"], None, len(stages) - 1
    for index, stage in enumerate(stages):
        space = stage.reshape(space, scores)
        mine = [record for record in records if record["stage"] == index]
        if mine and mine[-1]["stage_ended"] and index < last:  # over before we resumed: only its scores count
            scores = _scores_after(out, folder.answer(mine)["epoch"])
            continue
        search = bind(stage.strategy, space, augment=augment)
        compiled, state = _prepare(job, search, index, mine, seconds)
        state = _run_stage(job, search, compiled, state, stage, index, records, seconds)
        scores = _scores_after(out, folder.answer(records)["epoch"])  # from disk, as a resumed run will find them
    genotype = from_json(json.dumps(folder.answer(records)["genotype"]))
    if "stopped" not in records[-1]:
        genotype = _finished(job, search, state, finish, jax.random.fold_in(key, len(stages)), seconds)
    seconds["total"] = before + time.perf_counter() - began
    if parallel.leads():
        with folder.explained(out):
            told = {"config": config, "seconds": seconds, **environment(len(placement.devices), placement.name)}
            pictures = record_answer(out, space, records, genotype, told, compiled.program)
        progress.show_end(console, out, genotype, seconds, pictures)
    parallel.wait("the run is written")
    verdict = Verdict(**records[-1]["stopped"]) if "stopped" in records[-1] else None
    return Result(genotype=genotype, state=state, records=records, folder=out, stopped=verdict)


def _opened(out: Path, config: Mapping[str, Any], resume: bool) -> list[Record]:
    """The records of a run so far; its folder is ours. One process writes, all read."""
    if parallel.leads():
        (folder.check_same if resume else folder.claim)(out, config)
    parallel.wait("the folder is taken")
    if not resume:
        return []
    last = checkpoint.latest(out / "checkpoints") or 0
    if parallel.leads():
        folder.rewind(out, last)
    parallel.wait("the records are there")
    return folder.read_records(out)


def _on_one_device(job: _Job) -> Batches:  # for what runs outside the step
    return job.data if len(job.placement.devices) == 1 else on_device(job.split.train, job.split.valid)


def _prepare(job: _Job, search: Search, index: int, mine: list[Record], seconds) -> tuple[_Compiled, SearchState]:
    """The compiled epoch and measure, and the state to start from: drawn, or as it was saved."""
    with progress.waiting(job.console, "compiling the search step (once; the next start finds it in the cache)"):
        began = time.perf_counter()
        if mine:
            like = jax.eval_shape(search.init, job.key)
            state = checkpoint.restore(job.out / "checkpoints", mine[-1]["epoch"], like)
        else:
            init = jax.jit(search.init).lower(job.key).compile(compiler_options=QUICK)
            state = init(jax.random.fold_in(job.key, index))
        if mine and mine[-1]["stage_ended"]:
            return _Compiled(None, None, ()), state
        mapped = bind(search.strategy, search.space, augment=job.augment, axis_name=job.placement.axis_name)
        sizes = (len(job.split.train.label), len(job.split.valid.label))
        compiled = _Compiled(compile_epoch(mapped, job.data, job.batch, job.placement, sizes), None, ())
        if job.watch:
            found = compile_measure(job.watch.measure(search), search, _on_one_device(job), job.batch)
            compiled = _Compiled(compiled.program, *found)
        seconds["compile"] += time.perf_counter() - began
    return compiled, state


def _run_stage(job, search, compiled: _Compiled, state, stage: Stage, index: int, records: list[Record], seconds):
    """Runs what is left of a stage; `records` and `seconds` grow."""
    spread, single = job.placement.spread, job.placement.single
    mine = [record for record in records if record["stage"] == index]
    done, ended, program = len(mine), False, compiled.program
    if program is None:
        return state
    parallel.wait(f"stage {index} is compiled")
    state = spread(state)
    key_order = jax.random.fold_in(jax.random.fold_in(job.key, index), 1)
    with progress.shown(job.console, program.steps, stage.epochs, compiled.measured) as show:
        while not ended:
            epoch, began = len(records) + 1, time.perf_counter()
            key_epoch, tell = jax.random.fold_in(key_order, done), show.epoch(done + 1)
            try:
                state, means = run_epoch(program, state, job.data, spread(key_epoch), tell)
            except Diverged as error:
                raise Diverged(_last_words(error, job.out, epoch)) from None
            parallel.check_copies(state.bilevel.alpha, f"alpha after epoch {epoch}")
            done, here = done + 1, single(state)
            elapsed = time.perf_counter() - began
            seconds["run"] += elapsed
            scores, genotype = jax.device_get(search.scores(here)), search.genotype(here)
            record: Record = {"epoch": epoch, "stage": index, "step": int(here.bilevel.step)}
            record |= measures(means, scores, genotype) | {"seconds": elapsed}
            record["images_per_second"] = program.steps * job.batch * len(means) / elapsed
            record["genotype"] = json.loads(to_json(genotype))
            if compiled.measure and ((done - 1) % job.watch.every == 0 or done == stage.epochs):
                found = jax.device_get(compiled.measure(here, _on_one_device(job), key_epoch))
                record["measured"] = {name: float(value) for name, value in found.items()}
            mine.append(record)
            ended = _judge(job, mine, done == stage.epochs)
            with folder.explained(job.out):
                if parallel.leads():
                    folder.append(job.out, record, scores)
                checkpoint.save(job.out / "checkpoints", epoch, parallel.on_host(here), kept=job.kept)
            parallel.wait(f"epoch {epoch} is on disk")
            records.append(record)
            show.row(record)
            _tell(job, mine)
    return single(state)


def _finished(job: _Job, search: Search, state: SearchState, finish: Finish, key: Array, seconds) -> Genotype:
    began = time.perf_counter()
    genotype = finish(search, state, _on_one_device(job), key, job.batch)
    seconds["run"] += time.perf_counter() - began
    return genotype


def _judge(job: _Job, mine: list[Record], last: bool) -> bool:
    """Whether the stage ends here; what the rule said, and warnings not given before, go into the newest record."""
    verdict = None if last else job.stop(mine)
    if verdict:
        mine[-1]["stopped"] = verdict._asdict()
    said = {kind for record in mine for kind in record.get("warnings", ())}
    new = {kind: text for kind, text in warnings(mine).items() if kind not in said}
    if new and not verdict:
        mine[-1]["warnings"] = new
    mine[-1]["stage_ended"] = last or verdict is not None
    return mine[-1]["stage_ended"]


def _tell(job: _Job, mine: list[Record]) -> None:
    for text in mine[-1].get("warnings", {}).values():
        progress.warn(job.console, text)
    if "stopped" in mine[-1]:
        progress.show_stop(job.console, mine[-1]["epoch"], mine[-1]["stopped"]["epoch"], mine[-1]["stopped"]["why"])


def _scores_after(out: Path, epoch: int) -> CellGates:
    """The scores at the end of an epoch, from disk, where gates of edges are not kept: they are ones."""
    tables = {cell: table[epoch - 1] for cell, table in folder.read_scores(out).items()}
    return {cell: Gates(table, table[:, 0] * 0 + 1) for cell, table in tables.items()}


def _last_words(error: Diverged, out: Path, epoch: int) -> str:
    kept = (
        f"the state after epoch {epoch - 1} is kept in {out / 'checkpoints'}" if epoch > 1 else "no epoch was finished"
    )
    return f"{error}, in epoch {epoch}; {kept}. Look at the images' scale and labels, or lower the learning rate."


def _check(space: Space, data: Split, batch: int, stages: Sequence[Stage]) -> None:
    if stages:
        stages[0].reshape(space, None)  # says what does not fit before anything is written
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
