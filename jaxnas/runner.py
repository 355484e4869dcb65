"""The only loop over epochs: runs a search, shows it, and writes everything down.

Where in the river: around it. Owns clocks, folders and progress; no mathematics.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import Array
from rich.console import Console

from jaxnas import cache, checkpoint, folder, interruption, parallel, progress, recovery, terminal
from jaxnas.agreement import check_copies
from jaxnas.data import Split
from jaxnas.epoch import Diverged, Program, compile_init, compile_measure, run_epoch
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.evaluation.stopping import Rule, Verdict, never
from jaxnas.feeding import on_one, placed
from jaxnas.fitting import compile_to_fit, what_it_needs
from jaxnas.folder import Record
from jaxnas.hooks import Finish as Finish
from jaxnas.hooks import Observe as Observe
from jaxnas.hooks import decoded as decoded
from jaxnas.hypergradient import Batches
from jaxnas.interruption import Interrupted, Left, Part, rest
from jaxnas.precision import FLOAT32, Precision
from jaxnas.profiling import Profile, untraced
from jaxnas.record import asked_for, decided_in, environment, judge, measures, record_answer
from jaxnas.recovery import opened, scores_after, unfinished
from jaxnas.refusals import check, check_precision
from jaxnas.search import Augment, Search, SearchState, bind
from jaxnas.spaces.genotype import Genotype, from_json, to_json
from jaxnas.spaces.layout import Layout, choices, described
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.strategy import Strategy
from jaxnas.terminal import clock


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
    data: Any  # `Batches` as the devices hold it, or `Chunks` of it
    placement: parallel.Placement
    augment: Augment
    batch: int
    stop: Rule
    watch: Watch | None
    observe: Observe | None
    show: progress.Shown
    kept: int
    key: Array
    profile: Profile
    layouts: Sequence[Layout]  # of the supernet, from that which keeps most to that which keeps least


class _Compiled(NamedTuple):
    """What runs during a stage."""

    search: Search  # in the layout that fits
    layout: Layout
    program: Program | None  # none where the stage is over
    measure: Callable[[SearchState, Any, Array], Mapping[str, Array]] | None
    measured: tuple[str, ...]  # names


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
    observe: Observe | None = None,
    show: progress.Shown = progress.shown,
    finish: Finish = decoded,
    profile: Profile = untraced,
    kept: int = checkpoint.KEPT,
    placement: parallel.Placement | None = None,
    precision: Precision = FLOAT32,
    layout: Layout | None = None,
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
      observe: called with each epoch's record (as in `metrics.jsonl`) and scores once these are on disk, by the process
        that writes; epochs that a resumed run finds are not told again. `logs.tensorboard` makes one.
      show: what the console shows of an epoch: rows, or `partial(live.shown, space=space)`.
      finish: how the last state becomes the genotype of a run that no rule ended: decoded from alpha unless given, or
        `pick_shared`, `select_by_perturbation`. The records of the epochs hold what is decoded.
      profile: what watches the compiled epochs: that of `profiling.traced(folder)`.
      kept: states kept on disk.
      placement: where the search runs: `parallel.mesh()` for all devices; on one unless given. Several processes call
        this with the same arguments and see the same folder; the first of them writes.
      precision: in which numbers the network computes: FLOAT32, TF32 or BFLOAT16 of `precision`, or one of your own.
      layout: how the supernet is compiled; unless given, that of this platform which keeps most and fits into memory.
      resume: continue the run in `out`.
      console: where progress is shown; the terminal, or one output box of a notebook, unless given.

    Raises:
      Diverged: a loss is not a number; says at which step. The state of the last finished epoch is on disk.
      Interrupted: a signal (Ctrl-C, SIGTERM) came during an epoch; the state is on disk, inside the epoch. With
        several processes nobody listens: a signal ends its process, and all are started again after the last epoch.
      ValueError: data that do not fit the space, or another configuration than that of the run to resume.
      OSError: a folder in use, not writable, or full; says what to do.
      Disagreement: alpha is not the same on all devices after an epoch.
    """
    out, console, began = Path(out), console or terminal.console(), time.perf_counter()
    with clock(console, "checking what is searched"):
        check(space, data, batch, stages, at_once=finish is not decoded)
        check_precision(precision, stages, space, data, batch, augment)
    config = {**(settings or {}), **asked_for(stages, space, data, batch, watch, precision)}
    (placement := placement or parallel.one()).check_batch(batch)
    cache.keep_programs()
    layouts = [layout] if layout else choices()
    with opened(out, config, resume, console) as records, precision.in_force():  # for all that is traced and lowered
        images = placed(Batches(*data[:2]), placement, batch, partial(terminal.say, console))
        seen = precision.cast(augment)
        job = _Job(
            out, console, data, images, placement, seen, batch, stop, watch, observe, show, kept, key, profile, layouts
        )
        return _searched(job, stages, space, finish, config, records, began)


def _searched(job: _Job, stages, space: Space, finish: Finish, config, records, began) -> Result:
    """All stages that are left, and what comes behind them; `records` grows."""
    out, key, console = job.out, job.key, job.console
    seconds = {"compile": 0.0, "run": sum(record["seconds"] for record in records)}
    before, scores, last = seconds["run"], None, len(stages) - 1
    for index, stage in enumerate(stages):
        space = stage.reshape(space, scores)
        mine = [record for record in records if record["stage"] == index]
        if mine and mine[-1]["stage_ended"] and index < last:  # over before we resumed: only its scores count
            scores = scores_after(out, folder.answer(mine)["epoch"])
            continue
        compiled, start = _prepare(job, stage.strategy, space, index, mine, len(records), seconds)
        state = _run_stage(job, compiled, start, stage, index, records, seconds)
        scores = scores_after(out, folder.answer(records)["epoch"])  # from disk, as a resumed run will find them
    genotype = from_json(json.dumps(folder.answer(records)["genotype"]))
    if "stopped" not in records[-1]:
        genotype = _finished(job, compiled.search, state, finish, jax.random.fold_in(key, len(stages)), seconds)
    seconds["total"] = before + time.perf_counter() - began
    if parallel.leads():
        with folder.explained(out), clock(console, "drawing the pictures"):
            here = environment(len(job.placement.devices), job.placement.name)
            told = {"config": config, "seconds": seconds, **here, "layout": described(compiled.layout)}
            pictures = record_answer(out, space, records, genotype, told, compiled.program)
        interruption.forget(out)
        decided = decided_in(out, space) if finish is decoded else None
        progress.show_end(console, out, genotype, seconds, pictures, decided)
    parallel.wait("the run is written")
    verdict = Verdict(**records[-1]["stopped"]) if "stopped" in records[-1] else None
    return Result(genotype=genotype, state=state, records=records, folder=out, stopped=verdict)


def _prepare(job: _Job, strategy: Strategy, space: Space, index: int, mine: list[Record], epochs: int, seconds):
    """The compiled epoch and measure, and where to start: a state drawn, as it was saved, or inside an epoch."""
    with progress.compiling(job.console, "the search step"):
        laid_out = partial(_bound, job, strategy, space)
        search = laid_out(job.layouts[0])
        began, like = time.perf_counter(), jax.eval_shape(search.init, job.key)
        if mine and mine[-1]["stage_ended"]:
            over = _Compiled(search, job.layouts[0], None, None, ())
            return over, checkpoint.restore(job.out / "checkpoints", epochs, like)
        draw = None if mine else compile_init(search.init, job.key)
        sizes = (len(job.split.train.label), len(job.split.valid.label))
        shared, told = partial(laid_out, axis=job.placement.axis_name), partial(terminal.warn, job.console)
        layout, program = compile_to_fit(job.layouts, shared, job.data, job.batch, job.placement, sizes, told)
        program = job.profile(program)
        search = laid_out(layout)
        watched = job.watch and compile_measure(job.watch.measure, search, _on_one_device(job), job.batch)
        start: SearchState | Part | None = unfinished(job.out, job.console, epochs, program.steps, like)
        if start is None and draw:
            start = draw(jax.random.fold_in(job.key, index))
        elif start is None:
            start = checkpoint.restore(job.out / "checkpoints", epochs, like)
        seconds["compile"] += time.perf_counter() - began
    progress.show_memory(job.console, *what_it_needs(program, job.data, job.batch, job.placement))
    return _Compiled(search, layout, program, *(watched or (None, ()))), start


def _bound(job: _Job, strategy: Strategy, space: Space, layout: Layout, axis: str | None = None) -> Search:
    return bind(strategy, space, model=partial(supernet, layout=layout), augment=job.augment, axis_name=axis)


def _on_one_device(job: _Job) -> Any:  # for what runs outside the step
    return on_one(job.data, Batches(*job.split[:2]), job.placement, job.batch)


def _run_stage(job, compiled: _Compiled, start, stage: Stage, index: int, records: list[Record], seconds):
    """Runs what is left of a stage, from a state or a part of an epoch; `records` and `seconds` grow."""
    mine = [record for record in records if record["stage"] == index]
    part = start if isinstance(start, Part) else None
    done, ended, state = len(mine), False, part.state if part else start
    search, program = compiled.search, compiled.program
    if program is None:
        return state
    spread, single = job.placement.spread, job.placement.single
    parallel.wait(f"stage {index} is compiled")
    state = spread(state)
    key_order = jax.random.fold_in(jax.random.fold_in(job.key, index), 1)
    with (
        folder.explained(job.out),
        job.show(job.console, program.steps, stage.epochs, compiled.measured) as show,
        recovery.saving(job.out, job.kept) as save,  # outlived by the clock: the last state takes its time
        interruption.listening() as asked,
    ):
        while not ended:
            epoch, began = len(records) + 1, time.perf_counter()
            key_epoch, tell = jax.random.fold_in(key_order, done), show.epoch(done + 1, part.done if part else 0)
            try:
                state, means = run_epoch(rest(program, part, asked), state, job.data, spread(key_epoch), tell)
            except Diverged as error:
                raise Diverged(recovery.last_words(error, job.out, epoch)) from None
            except Left as left:
                kept = left.part._replace(state=single(left.part.state))
                interruption.keep(job.out, epoch - 1, program.steps, kept)
                told = f"in epoch {epoch}, after {left.part.done} of {program.steps} steps"
                raise Interrupted(asked(), f"stopped {told}") from None
            check_copies(state.bilevel.alpha, f"alpha after epoch {epoch}")
            done, here, elapsed = done + 1, single(state), time.perf_counter() - began
            seconds["run"] += elapsed
            scores, genotype = jax.device_get(search.scores(here)), search.genotype(here)
            record: Record = {"epoch": epoch, "stage": index, "step": int(here.bilevel.step)}
            record |= measures(means, scores, genotype) | {"seconds": elapsed}
            steps = program.steps - (part.done if part else 0)
            record["images_per_second"] = steps * job.batch * len(means) / elapsed
            record["genotype"] = json.loads(to_json(genotype))
            if compiled.measure and ((done - 1) % job.watch.every == 0 or done == stage.epochs):
                found = jax.device_get(compiled.measure(here, _on_one_device(job), key_epoch))
                record["measured"] = {name: float(value) for name, value in found.items()}
            mine.append(record)
            ended = judge(job.stop, mine, done == stage.epochs)
            if parallel.leads():
                folder.append(job.out, record, scores)
            save(epoch, here)
            parallel.wait(f"epoch {epoch} is written")
            part = None
            records.append(record)
            show.row(record, tables := {cell: gates.ops for cell, gates in scores.items()})
            progress.show_signs(job.console, record)
            if job.observe and parallel.leads():
                job.observe(record, tables)
            if asked():
                raise Interrupted(asked(), f"stopped after epoch {epoch}")
    return single(state)


def _finished(job: _Job, search: Search, state: SearchState, finish: Finish, key: Array, seconds) -> Genotype:
    began = time.perf_counter()
    with progress.counting(job.console, "choosing the genotype") as tell:
        data = job.data if finish is decoded else _on_one_device(job)  # of all images, where they are looked at
        genotype = finish(search, state, data, key, job.batch, tell)
    seconds["run"] += time.perf_counter() - began
    return genotype
