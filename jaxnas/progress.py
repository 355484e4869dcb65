"""What a person sees while a search runs: one bar for the epoch, one row for each finished one.

Where in the river: outside. Knows numbers and a terminal; no arrays.
"""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TimeElapsedColumn
from rich.text import Text

from jaxnas.cache import noticed
from jaxnas.evaluation.decision import Decision, doubt, told
from jaxnas.spaces.genotype import Genotype
from jaxnas.terminal import field, moves, moving, say, waiting, warn

MANY = 5000  # images; fewer are read in seconds
_COLUMNS = "epoch train loss    acc  valid loss    acc  entropy  skips  images/s   time left"
_TRAINING = "epoch train loss    acc  valid loss    acc      rate  images/s   time left"


class Show(NamedTuple):
    """The two things that a loop has to tell."""

    epoch: Callable[..., Callable[[int, Any], None]]  # (epoch, steps before) -> (more steps, metrics so far) -> None
    row: Callable[..., None]  # (record of a finished epoch, {cell: scores [E, O]} of a search) -> None


# (console, steps of an epoch, epochs of the stage, names of measures) -> while it runs, what the loop tells
Shown = Callable[[Console, int, int, Sequence[str]], contextlib.AbstractContextManager[Show]]


class _Left(ProgressColumn):
    """Time left for the whole bar."""

    def render(self, task) -> Text:
        seconds = task.time_remaining
        return Text("" if seconds is None else f"{duration(seconds)} left")


@contextlib.contextmanager
def compiling(console: Console, what: str) -> Iterator[None]:
    """The same while programs are compiled, or read from disk; which of the two it was is told at the end."""
    with noticed() as came_from:
        with waiting(console, f"compiling {what}, unless it is found on disk"):
            yield
        say(console, f"{what}: {came_from()}")


@contextlib.contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar moved by tell(done, of how many), a clock before it; a line for each tenth where nothing moves."""
    columns = (field("{task.description}"), BarColumn(12), field("{task.fields[told]}"), TimeElapsedColumn(), _Left())
    bar = _bar(console, *columns)
    task = bar.add_task(what, total=None, told="")
    tenths = 0

    def tell(done: int, total: int) -> None:
        nonlocal tenths
        bar.update(task, completed=done, total=total, told=f"{done}/{total}")
        if not moves(console) and 10 * done // total > tenths:
            say(console, f"{what}: {done}/{total}")
        tenths = 10 * done // total

    with moving(console, bar.get_renderable):
        yield tell


@contextlib.contextmanager
def reading(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """The same for images, moved by tell(what, done, of how many), one bar at a time; silent where there are few."""
    with contextlib.ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def tell(what: str, done: int, total: int) -> None:
            if total < MANY:
                return
            if what not in bars:
                stack.close()
                bars[what] = stack.enter_context(counting(console, what))
            bars[what](done, total)

        yield tell


def _bar(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar that `terminal.moving` draws: it draws nothing itself."""
    return Progress(*columns, console=console, disable=True)


@contextlib.contextmanager
def shown(console: Console, steps: int, epochs: int, measured: Sequence[str] = ()) -> Iterator[Show]:
    """A bar over all steps of a stage, and a table that grows above it; what was measured is told below a row."""
    del measured
    say(console, (_COLUMNS, "bold"))
    bar = _bar(console, *_over_steps())
    task = bar.add_task("", total=steps * epochs, told="")
    with moving(console, bar.get_renderable):
        yield Show(
            lambda epoch, made=0: _teller(bar, task, epoch, steps, epochs, made),
            lambda record, scores: _row(console, bar, task, record),
        )


def _over_steps() -> tuple[ProgressColumn, ...]:
    return field("{task.description}"), BarColumn(12), TimeElapsedColumn(), _Left(), field("{task.fields[told]}")


def _teller(bar: Progress, task: TaskID, epoch: int, steps: int, epochs: int, made: int = 0):
    before = (epoch - 1) * steps

    def tell(more: int, means: Mapping[str, Mapping[str, float]]) -> None:
        done = made + more
        told = f"step {done}/{steps}  " + "  ".join(f"{name} loss {m['loss']:.3f}" for name, m in means.items())
        bar.update(task, completed=before + done, description=f"epoch {epoch}/{epochs}", told=told)

    return tell


def _row(console: Console, bar: Progress, task: TaskID, record: Mapping[str, Any]) -> None:
    own = f"{record['alpha_entropy']:7.4f}  {record['skips']:5d}"
    say(console, f"{_scored(record)}  {own}  {record['images_per_second']:8.0f}{_until(bar, task):>12}")
    if found := record.get("measured"):
        say(console, "      " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))


@contextlib.contextmanager
def shown_training(console: Console, steps: int, epochs: int) -> Iterator[Show]:
    """The same for a network trained from scratch: losses and accuracies, the rate, images a second, time left."""
    say(console, (_TRAINING, "bold"))
    bar = _bar(console, *_over_steps())
    task = bar.add_task("", total=steps * epochs, told="")
    with moving(console, bar.get_renderable):
        yield Show(
            lambda epoch: _teller(bar, task, epoch, steps, epochs),
            lambda record: _training_row(console, bar, task, record, steps),
        )


def _training_row(console: Console, bar: Progress, task: TaskID, record: Mapping[str, Any], steps: int) -> None:
    bar.update(task, completed=record["epoch"] * steps)
    rate, images = record["rate"], record["images_per_second"]
    say(console, f"{_scored(record)}  {rate:8.5f}  {images:8.0f}{_until(bar, task):>12}")


def _scored(record: Mapping[str, Any]) -> str:
    """The first columns of a row: the epoch, losses and accuracies, a dash for what was not looked at."""
    number = lambda name, form: format(record[name], form) if name in record else "-"
    parts = (f"{number(f'{one}_loss', '.4f'):>10} {number(f'{one}_accuracy', '.1%'):>6}" for one in ("train", "valid"))
    return f"{record['epoch']:5d} " + "  ".join(parts)


def _until(bar: Progress, task: TaskID) -> str:
    """Time left, or a dash while nobody knows."""
    left = next((one.time_remaining for one in bar.tasks if one.id == task), None)
    return "-" if left is None else duration(left)


def show_trained(
    console: Console, out: Path, test: Mapping[str, float], images: int, seconds: Mapping[str, float]
) -> None:
    """The accuracy on the test images, where the time went, and where everything lies."""
    spent = f"{seconds['compile']:.0f} s compiling, {seconds['run']:.0f} s training"
    right = f" of {images:,} test images are right, measured once, after the last epoch.\n"
    told = (f"\n{test['accuracy']:.2%}", "bold"), right, f"{duration(seconds['total'])} in all: {spent}. "
    say(console, *told, "Everything lies in ", (str(out), "bold"), ".")


def show_memory(console: Console, line: str, warning: str) -> None:
    """What a run needs of the device's memory."""
    say(console, line)
    if warning:
        warn(console, warning)


def show_signs(console: Console, record: Mapping[str, Any]) -> None:
    """An epoch's warnings; that a rule ended the search after it, why, and which epoch is the answer."""
    for text in record.get("warnings", {}).values():
        warn(console, text)
    if "stopped" in record:
        why, answer = record["stopped"]["why"], record["stopped"]["epoch"]
        told = f"stopped after epoch {record['epoch']}: {why}; the answer is the genotype of epoch {answer}."
        say(console, told)


def show_end(
    console: Console,
    out: Path,
    genotype: Genotype,
    seconds: Mapping[str, float],
    pictures: list[Path],
    decided: Decision | None = None,
) -> None:
    """The genotype, where the time went, where everything lies, how decided alpha is, and what to do next."""
    say(console)
    for cell in genotype.names:
        say(console, (cell, "bold"))
        for choice in genotype.edges(cell):
            say(console, f"  {choice.source} -> {choice.target}  {choice.op}")
    times = (
        f"{duration(seconds['total'])} in all: {seconds['compile']:.0f} s compiling, {seconds['run']:.0f} s searching"
    )
    names = ", ".join(picture.name for picture in pictures)
    say(console, f"\n{times}. Everything lies in ", (str(out), "bold"), f"; look at {names}.")
    if decided:
        say(console, told(decided))
    if text := decided and doubt(decided):
        warn(console, text)
    run, trained = shlex.quote(str(out)), shlex.quote(f"{out}-trained")
    say(console, f"Next: jaxnas evaluate {run} --out {trained}; then jaxnas compare {trained}, beside others.")


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
