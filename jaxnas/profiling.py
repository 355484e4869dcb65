"""Where the time of a step goes: a trace of a few steps of a run, as TensorBoard and Perfetto open it.

Where in the river: around the step. Knows a compiled epoch and a folder; a function of this kind is given to
`run(profile=...)` and `fit(profile=...)`:

    with profiling.traced("profile") as profile:
        jn.run(stages, space, data, key, out="runs/a", profile=profile)
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnas.epoch import Program
from jaxnas.parallel import leads

STEPS = 3  # that are traced: more show nothing new, and make files of hundreds of megabytes

Profile = Callable[[Program], Program]  # a compiled epoch -> the same, watched


def untraced(program: Program) -> Program:
    """The program as it is.

    Args:
      program: a compiled epoch.
    """
    return program


@contextlib.contextmanager
def traced(folder: Path | str, say: Callable[[str], None] = lambda text: None) -> Iterator[Profile]:
    """What traces up to three steps behind the first one, compilation not among them; of several processes the first.

    Args:
      folder: where the trace goes, into a folder of its own in `plugins/profile`; made if missing.
      say: called with one sentence at the end: where the trace is and how to open it, or why there is none.

    Raises:
      OSError: once entered, where the folder is none, or nothing can be written there.

    Source: https://docs.jax.dev/en/latest/profiling.html
    """
    check_place(place := Path(folder))
    told: list[str] = []
    try:
        yield lambda program: _watched(program, place, told) if leads() else program
    finally:
        if leads():
            say(told[0] if told else "no trace was written: the run made no second step.")


def wanted(
    folder: Path | str | None, say: Callable[[str], None] = lambda text: None
) -> contextlib.AbstractContextManager[Profile]:
    """`traced(folder, say)`, or `untraced` without a folder.

    Args:
      folder, say: as for `traced`.
    """
    return traced(folder, say) if folder else contextlib.nullcontext(untraced)


def check_place(folder: Path) -> None:
    """Raises an OSError where a folder is none, or could not be made; nothing is written.

    Args:
      folder: that will be written to.
    """
    found = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists() or one.is_symlink())
    told = f"a profile cannot go to {folder}: {found}"
    if not found.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{told} is no folder; name another one.")
    if not os.access(found, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{told} may not be written; name another one.")


def _watched(program: Program, place: Path, told: list[str]) -> Program:
    """The same epoch, of which the second stretch is begun under the profiler, step by step."""
    calls = 0

    def run(state: Any, data: Any, key: Any, start: Any, stop: Any):
        nonlocal calls
        calls += 1
        if told or (calls == 1 and program.steps > 1):  # the first step loads the program and warms up
            return program.run(state, data, key, start, stop)
        middle = min(int(start) + STEPS, int(stop))
        state, sums, bad = _under_trace(program, place, told, state, data, key, int(start), middle)
        if bad >= 0 or middle == stop:
            return state, sums, np.int32(bad)
        state, more, bad = program.run(state, data, key, np.int32(middle), stop)
        return state, jax.tree.map(np.add, sums, jax.device_get(more)), bad

    return program._replace(run=run)


def _under_trace(program: Program, place: Path, told: list[str], state, data, key, start: int, stop: int):
    """Steps one by one, each with its number in the trace."""
    sums, bad = None, -1
    with _recording(place, stop - start, told):
        for step in range(start, stop):
            with jax.profiler.StepTraceAnnotation("step", step_num=step):
                state, part, found = program.run(state, data, key, np.int32(step), np.int32(step + 1))
                part, bad = jax.device_get((part, found))
            sums = part if sums is None else jax.tree.map(np.add, sums, part)
            if bad >= 0:
                break
    return state, sums, int(bad)


@contextlib.contextmanager
def _recording(place: Path, steps: int, told: list[str]) -> Iterator[None]:
    """Under the profiler; what that cannot do does not stop a run, and is told."""
    try:
        jax.profiler.start_trace(str(place), create_perfetto_trace=True)
    except (OSError, RuntimeError) as error:
        told.append(f"no trace was written: {error}.")
        yield
        return
    try:
        yield
    finally:
        try:
            jax.profiler.stop_trace()
            told.append(_where(place, steps))
        except (OSError, RuntimeError) as error:
            told.append(f"no trace was written: {error}.")


def _where(place: Path, steps: int) -> str:
    """The sentence that names the trace, and how it is opened."""
    files = sorted(place.rglob("perfetto_trace.json.gz"), key=lambda file: file.stat().st_mtime)
    many, file = f"{steps} steps" if steps > 1 else "one step", files[-1] if files else place
    open_it = f"drop {file} on https://ui.perfetto.dev, or pip install tensorboard xprof; tensorboard --logdir {place}"
    return f"a trace of {many} lies in {place}: {open_it}."
