"""A search watched in the terminal: one screen that is drawn anew, with the strongest operation of each edge.

Where in the river: outside, beside `progress`. Knows numbers, names and a terminal.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.spinner import Spinner
from rich.text import Text

from jaxnas import progress, terminal
from jaxnas.progress import Show
from jaxnas.spaces.space import Space
from jaxnas.terminal import Sheet

BAR = 8  # characters of a gate that is 1
NUMBERS = {  # of a record -> how they are written
    "train_loss": ".4f",
    "train_accuracy": ".1%",
    "valid_loss": ".4f",
    "valid_accuracy": ".1%",
    "alpha_entropy": ".4f",
    "skips": "d",
    "images_per_second": ".0f",
}


@contextlib.contextmanager
def shown(console: Console, steps: int, epochs: int, measured: Sequence[str] = (), *, space: Space) -> Iterator[Show]:
    """What the loop tells, on one screen; rows of text, as `progress.shown`, where nothing can be drawn anew.

    Args:
      console: where.
      steps: steps of an epoch.
      epochs: epochs of the stage.
      measured: names of the measures in a record.
      space: names of operations and edges.
    """
    if not terminal.moves(console):
        with progress.shown(console, steps, epochs, measured) as show:
            yield show
        return
    spinner = Spinner("dots", "starting")  # turns while a step takes long
    parts: dict[str, RenderableType] = {"line": spinner}  # what stands on the screen, from the top
    with terminal.moving(console, lambda: Group(*parts.values()), stays=True):

        def epoch(number: int, made: int = 0):
            def tell(more: int, means: Mapping[str, Mapping[str, float]]) -> None:
                told = ", ".join(f"{player} loss {found['loss']:.3f}" for player, found in means.items())
                spinner.update(text=Text(f"epoch {number}/{epochs}, step {made + more}/{steps}: {told}", style="bold"))

            return tell

        yield Show(epoch, lambda record, scores: parts.update(numbers=numbers(record), edges=strongest(scores, space)))


def numbers(record: Mapping[str, Any]) -> Sheet:
    """The numbers of a finished epoch as a table of one row.

    Args:
      record: of the epoch.
    """
    found = {name: format(record[name], form) for name, form in NUMBERS.items() if name in record}
    found |= {name: format(value, ".3g") for name, value in record.get("measured", {}).items()}
    heads = ("epoch", *(name.replace("_", " ") for name in found))
    return terminal.table(heads, [(str(record["epoch"]), *found.values())], framed=False)


def strongest(scores: Mapping[str, Any], space: Space) -> Columns:
    """The strongest operation of each edge and its score, a small table for each cell type.

    Args:
      scores: {cell: [E, O]}.
      space: names of operations and edges.
    """
    heads = ("edge", "operation", "score", "")
    tables = [
        terminal.table(heads, _strongest(found, space), title=cell, framed=False) for cell, found in scores.items()
    ]
    return Columns(tables, padding=(0, 4))


def _strongest(scores: Any, space: Space) -> Iterator[tuple[str, ...]]:
    for (source, target), row in zip(space.edges, np.asarray(scores, float), strict=True):
        best = int(row.argmax())
        bar = "█" * round(BAR * min(float(row[best]), 1.0))
        yield f"{source} → {target}", space.op_names[best], f"{row[best]:.2f}", bar
