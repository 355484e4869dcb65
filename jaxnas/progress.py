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
from jaxnas.terminal import field, say, warn

_COLUMNS = "epoch   train loss   acc   valid loss   acc   entropy  skips   images/s   time left"


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
def waiting(console: Console, what: str) -> Iterator[None]:
    """A spinner with a clock (a line of text where the output is no terminal)."""
    if not console.is_terminal:
        say(console, what)
        yield
        return
    with Progress(field("{task.description}", "bold"), TimeElapsedColumn(), console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield


@contextlib.contextmanager
def compiling(console: Console, what: str) -> Iterator[None]:
    """The same while programs are compiled, or read from disk; which of the two it was is told at the end."""
    with noticed() as came_from:
        with waiting(console, f"compiling {what}, unless it is found on disk"):
            yield
        say(console, f"{what}: {came_from()}")


@contextlib.contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar moved by tell(done, of how many), there from the first call; a line for each tenth outside a terminal."""
    columns = (field("{task.description}"), BarColumn(12), field("{task.completed}/{task.total}"), _Left())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: list[TaskID] = []

        def tell(done: int, total: int) -> None:
            tasks.extend([] if tasks else [bar.add_task(what, total=total)])
            bar.update(tasks[0], completed=done)
            if not console.is_terminal and 10 * done // total > 10 * (done - 1) // total:
                say(console, f"{what}: {done}/{total}")

        yield tell


@contextlib.contextmanager
def shown(console: Console, steps: int, epochs: int, measured: Sequence[str] = ()) -> Iterator[Show]:
    """A progress bar over all steps of a stage, and a table that grows above it; with a column for each measure."""
    columns = (field("{task.description}"), BarColumn(12), _Left(), field("{task.fields[told]}"))
    say(console, (_COLUMNS + "".join(f"   {name:>9}" for name in measured), "bold"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps * epochs, told="")
        yield Show(
            lambda epoch, made=0: _teller(bar, task, epoch, steps, epochs, made),
            lambda record, scores: _row(console, bar, task, record, measured),
        )


def _teller(bar: Progress, task: TaskID, epoch: int, steps: int, epochs: int, made: int = 0):
    before = (epoch - 1) * steps

    def tell(more: int, means: Mapping[str, Mapping[str, float]]) -> None:
        done = made + more
        told = f"step {done}/{steps}  " + "  ".join(f"{name} loss {m['loss']:.3f}" for name, m in means.items())
        bar.update(task, completed=before + done, description=f"epoch {epoch}/{epochs}", told=told)

    return tell


def _row(console: Console, bar: Progress, task: TaskID, record: Mapping[str, Any], measured: Sequence[str]) -> None:
    numbers = {**record, **record.get("measured", {})}
    number = lambda name, form, width: format(numbers[name], form) if name in numbers else "-".rjust(width)
    left = next((t.time_remaining for t in bar.tasks if t.id == task), None)
    text = (
        f"{record['epoch']:5d}   {number('train_loss', '10.4f', 10)} {number('train_accuracy', '5.1%', 6):>6}"
        f"   {number('valid_loss', '10.4f', 10)} {number('valid_accuracy', '5.1%', 6):>6}"
        f"   {record['alpha_entropy']:6.4f}  {record['skips']:5d}   {record['images_per_second']:8.0f}"
        f"   {duration(left) if left is not None else '-':>9}"
    ) + "".join(f"   {number(name, '9.3g', 9):>{max(9, len(name))}}" for name in measured)
    say(console, text)


@contextlib.contextmanager
def shown_training(console: Console, steps: int, epochs: int) -> Iterator[Show]:
    """The same for a network trained from scratch: losses and accuracies, the rate, images a second, time left."""
    columns = (field("{task.description}"), BarColumn(12), _Left(), field("{task.fields[told]}"))
    head = "epoch   train loss   acc   valid loss   acc       rate   images/s   time left"
    say(console, (head, "bold"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps * epochs, told="")
        yield Show(
            lambda epoch: _teller(bar, task, epoch, steps, epochs),
            lambda record: _training_row(console, bar, task, record, steps),
        )


def _training_row(console: Console, bar: Progress, task: TaskID, record: Mapping[str, Any], steps: int) -> None:
    bar.update(task, completed=record["epoch"] * steps)
    left = next((t.time_remaining for t in bar.tasks if t.id == task), None)
    number = lambda name, form: format(record[name], form) if name in record else "-"
    say(
        console,
        f"{record['epoch']:5d}   {number('train_loss', '.4f'):>10} {number('train_accuracy', '.1%'):>6}"
        f"   {number('valid_loss', '.4f'):>10} {number('valid_accuracy', '.1%'):>6}   {record['rate']:8.5f}"
        f"   {record['images_per_second']:8.0f}   {duration(left) if left is not None else '-':>9}",
    )


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
