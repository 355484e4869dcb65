"""A signal in the middle of an epoch: noticed at the next look of the host, and the state goes to disk.

Where in the river: around it, beside the runner. Knows signals, and an epoch that is run in stretches.
"""

import contextlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnas import checkpoint
from jaxnas.epoch import Program
from jaxnas.search import SearchState

HEARD = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what schedulers send before they kill


class Interrupted(KeyboardInterrupt):
    """A run that ended because a signal asked for it; the state is on disk."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.signal = number  # the process should end with status 128 + signal


class Part(NamedTuple):
    """An epoch that is not finished."""

    state: SearchState
    sums: Any  # of the metrics so far
    done: int  # steps made


class Left(Exception):
    """Raised out of an epoch when somebody asked to leave it."""

    def __init__(self, part: Part) -> None:
        self.part = part


@contextlib.contextmanager
def listening() -> Iterator[Callable[[], int]]:
    """A function that gives the number of the signal that came meanwhile, 0 if none; a second one ends at once.

    Signals that are ignored, or handled outside Python, stay so; so do all where this is not the main thread, and where
    this is one of several processes: a signal to one ends it, and all are started again behind the last finished epoch.
    """
    before: dict[int, Any] = {}
    heard: list[int] = []

    def hear(number: int, _) -> None:
        heard.append(number)
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
        before = {number: signal.getsignal(number) for number in HEARD}
        before = {number: known for number, known in before.items() if known not in (None, signal.SIG_IGN)}
        for number in before:
            signal.signal(number, hear)
    try:
        yield lambda: heard[0] if heard else 0
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def rest(program: Program, part: Part | None, asked: Callable[[], int]) -> Program:
    """What is left of an epoch, as an epoch of its own; it is left (`Left`) at a look before which somebody asked.

    The steps, their batches and their keys are those of the whole epoch, so the state behind it is the same bits.
    """
    done, before = (part.done, part.sums) if part else (0, None)
    add = lambda one, other: jax.tree.map(np.add, one, other)
    sums: Any = None

    def run(state, data, key, start, stop):
        nonlocal sums
        state, here, bad = program.run(state, data, key, np.int32(start + done), np.int32(stop + done))
        here = jax.device_get(here)
        if start == 0 and before is not None:
            here = add(before, here)
        sums = here if start == 0 else add(sums, here)
        if asked() and bad < 0 and stop < program.steps - done:
            raise Left(Part(state, sums, int(stop) + done))
        return state, here, bad

    return program._replace(run=run, steps=program.steps - done)


def keep(out: Path, epochs: int, steps: int, part: Part) -> None:
    """Writes an unfinished epoch.

    Args:
      out: the run's folder.
      epochs: finished before it.
      steps: in an epoch. The state's number is that of all steps made, so an old one cannot be taken for a new one.
      part: what to write.
    """
    checkpoint.save(out / "unfinished", epochs * steps + part.done, {"state": part.state, "sums": part.sums}, kept=1)


def recall(out: Path, epochs: int, steps: int, like: SearchState) -> Part | None:
    """The unfinished epoch behind so many finished ones, or None where there is none.

    Raises:
      ValueError: where it is damaged; `forget` it, and run the epoch from its beginning.
    """
    number = checkpoint.latest(out / "unfinished") or 0
    if not epochs * steps < number < (epochs + 1) * steps:
        return None
    try:
        sums = checkpoint.read(out / "unfinished", number)["sums"]
        found = checkpoint.restore(out / "unfinished", number, {"state": like, "sums": sums})
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # whatever orbax and its parts say to a damaged file
        raise ValueError(f"the unfinished epoch in {out / 'unfinished'} is damaged") from error
    return Part(found["state"], jax.device_get(found["sums"]), number - epochs * steps)


def forget(out: Path) -> None:
    """Removes an unfinished epoch, once it is finished or found damaged."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out / "unfinished")
