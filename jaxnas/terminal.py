"""What is written on a terminal: the only door to rich, which takes brackets and colons of a text for markup.

Where in the river: outside. Knows lines and tables; no run, no number.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from jaxnas import notebook

Part = str | tuple[str, str]  # a text, or a text and its style
TALL = 4  # lines: a cell of a table is not broken into more


class Sheet(NamedTuple):
    """A table, shown as a list where it would be wider than the console, or its cells many lines high."""

    heads: tuple[str, ...]  # of the columns
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    ruled: Collection[int] = ()  # the rows that a line follows
    framed: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self.title:
            yield from _wrapped(Text(self.title, "italic"), options.max_width)
        widths = _widths(self, options.max_width - _around(self))
        yield from [_framed(self, widths)] if widths else _listed(self, options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        natural = max(_around(self) + sum(map(_width, _columns(self))), _width([self.title]))
        return Measurement(min(natural, options.max_width), min(natural, options.max_width))


def console() -> Console:
    """Where a run is shown unless its caller says: the terminal; in a notebook, one output box."""
    found = Console()
    return notebook.console() if found.is_jupyter else found


def say(console: Console, *parts: Part) -> None:
    """Writes texts as they are, as one line, whatever brackets and colons a user's names have.

    A person sees the line broken between words, never inside a path or a name; a file or a pipe gets it whole.

    Args:
      console: where.
      parts: texts, each alone or with its style.
    """
    text = Text.assemble(*parts)
    for line in _wrapped(text, console.width) if moves(console) else [text]:
        console.print(line, highlight=False, soft_wrap=True)


def show(console: Console, shown: Sheet) -> None:
    """Writes a table; nothing of it is cut.

    Args:
      console: where.
      shown: the table.
    """
    console.print(shown, highlight=False, crop=False)


def warn(console: Console, text: str) -> None:
    """One sentence that should be seen.

    Args:
      console: where.
      text: the sentence.
    """
    say(console, ("warning:", "bold yellow"), f" {text}")


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    ruled: Collection[int] = (),
    framed: bool = True,
) -> Sheet:
    """A table of texts as they are.

    Args:
      heads: of the columns.
      rows: texts, one for each column.
      title: above it.
      ruled: numbers of the rows that a line follows.
      framed: whether it has a frame.
    """
    return Sheet(tuple(heads), tuple(map(tuple, rows)), title, ruled, framed)


def field(form: str, style: str = "none") -> TextColumn:
    """A column of a progress bar.

    Args:
      form: what it shows of a task, as `str.format` fills it.
      style: of the text.
    """
    return TextColumn(form, style=style, markup=False)


def moves(console: Console) -> bool:
    """Whether what was drawn can be drawn anew: on a terminal and in a notebook, not in a file or a pipe.

    Args:
      console: where.
    """
    return console.is_terminal or isinstance(console.file, notebook.Box)


@contextlib.contextmanager
def moving(console: Console, drawn: Callable[[], RenderableType], *, stays: bool = False) -> Iterator[None]:
    """Draws something again and again below what is said meanwhile; nothing where it could not move.

    Args:
      console: where.
      drawn: what to draw now.
      stays: whether the last of it is left there.
    """
    if isinstance(console.file, notebook.Box):
        with console.file.moving(drawn, stays=stays):
            yield
    elif console.is_terminal:
        with Live(get_renderable=drawn, console=console, refresh_per_second=10, transient=not stays) as screen:
            screen.refresh()
            yield
    else:
        yield


def _columns(shown: Sheet) -> list[tuple[str, ...]]:
    return list(zip(shown.heads, *shown.rows, strict=True))


def _width(cells: Sequence[str]) -> int:
    """Of the longest line."""
    return max(cell_len(line) for cell in cells for line in cell.split("\n"))


def _words(cell: str) -> str:
    """Each on its line."""
    return "\n".join(cell.split())


def _around(shown: Sheet) -> int:
    """What frame and gaps take."""
    return (3 if shown.framed else 2) * len(shown.heads) + shown.framed


def _widths(shown: Sheet, room: int) -> list[int]:
    """Those of the columns, such that no word is cut and no cell is tall; none where there are no such."""
    columns = _columns(shown)
    bounds = [(_width([*map(_words, cells)]), _width(cells)) for cells in columns]
    levels = ([max(word, min(line, level)) for word, line in bounds] for level in range(room, 0, -1))
    widths = next((found for found in levels if sum(found) <= room), [])
    return [] if any(_tall(cell, w) for cells, w in zip(columns, widths, strict=False) for cell in cells) else widths


def _tall(cell: str, width: int) -> bool:
    return len(list(_wrapped(Text(cell), width))) > max(TALL, 1 + cell.count("\n"))


def _framed(shown: Sheet, widths: Sequence[int]) -> Table:
    """The table of rich."""
    columns = [Column(Text(head), width=width) for head, width in zip(shown.heads, widths, strict=True)]
    made = Table(*columns, box=HEAVY_HEAD if shown.framed else None)
    for number, row in enumerate(shown.rows):
        made.add_row(*map(Text, row), end_section=number in shown.ruled)
    return made


def _listed(shown: Sheet, width: int) -> Iterator[Text]:
    """Each row as its first cell, and below it a line for each other that says something."""
    heads = [" ".join(head.split()) for head in shown.heads[1:]]
    left = max(map(cell_len, heads), default=0) + 4
    for name, *cells in shown.rows:
        yield from _wrapped(Text(name, "bold"), width)
        for head, cell in zip(heads, cells, strict=True):
            yield from _beside(head, cell, left, width) if cell else ()


def _beside(head: str, cell: str, left: int, width: int) -> Iterator[Text]:
    """A head and, this far from the left, a cell; the cell below it where one of its words would not fit there."""
    if left + _width([_words(cell)]) > width:
        yield Text(f"  {head}")
        head, left = "", 4
    for number, line in enumerate(_wrapped(Text(cell), max(width - left, 1))):
        yield _whole(Text(f"  {'' if number else head}".ljust(left)) + line)


def _wrapped(text: Text, width: int) -> Iterator[Text]:
    """Its lines, broken before a word that does not fit; a word that is longer stays whole."""
    for line in text.split("\n", allow_blank=True):
        for part in line.divide(_breaks(line.plain, width)):
            part.rstrip()
            yield _whole(part)


def _whole(line: Text) -> Text:
    """A line that rich neither folds nor cuts."""
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _breaks(line: str, width: int) -> list[int]:
    """Where a line is broken: in front of these characters."""
    breaks, start = [], 0
    for word in re.finditer(r"\S+", line):
        if cell_len(line[start : word.end()]) > width and line[start : word.start()].strip():
            breaks.append(start := word.start())
    return breaks


@contextlib.contextmanager
def clock(console: Console, what: str) -> Iterator[None]:
    """A clock that runs on a terminal; nothing elsewhere.

    Args:
      console: where.
      what: is waited for.
    """
    bar = Progress(field("{task.description}", "bold"), TimeElapsedColumn(), console=console, disable=True)
    bar.add_task(what, total=None)
    with contextlib.nullcontext() if console.quiet else moving(console, bar.get_renderable):
        yield


@contextlib.contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """The same for what may take minutes: a line of text where the output is no terminal.

    Args:
      console: where.
      what: is waited for.
    """
    if not moves(console):
        say(console, what)
    with clock(console, what):
        yield
