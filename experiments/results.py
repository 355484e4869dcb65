"""Writes the tables and pictures of the documentation from experiments/studies: `python -m experiments.results`.

A study's record lies in studies/NAME.json; its tables go between two marks of a page, and a link to its picture,
docs/results-NAME.png. Sentences around them are written by hand. Studies without a record leave a line that says so.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks import show
from experiments import collapse, combined, exactness, precision, snas_constraint, truth
from jaxnas import drawing

HERE = Path(__file__).parent
PAGES = tuple(HERE.parent / "docs" / name for name in ("results.md", "exactness.md", "precision.md"))


class Shown(NamedTuple):
    """What a page shows of a study's record."""

    tables: Callable[[dict[str, Any]], str]  # in Markdown
    caption: str = ""
    picture: Callable[[dict[str, Any]], Figure] | None = None


def worth(pairs) -> Shown:
    """Of a study of true accuracies: methods, pairs of methods, and epochs."""
    methods = lambda told: truth.table_of(told["records"], told["whole"])
    tables = lambda told: f"{methods(told)}\n\n{truth.pairs_of(told['records'], pairs)}"
    draw = lambda told: truth.picture(told["records"], told["whole"])
    return Shown(tables, "CIFAR-10 test accuracy of the cell behind each epoch", draw)


def agreement(*tables) -> Shown:
    """Of a study of the two second orders: these tables of its rows."""
    told = lambda told: "\n\n".join(table(told["rows"]) for table in tables)
    return Shown(told, "Cosine and relative error along a search", lambda told: exactness.picture(told["rows"]))


STUDIES = {
    "truth": worth(truth.PAIRS),
    "combined": worth(combined.PAIRS),
    "collapse": Shown(
        lambda told: f"{collapse.table_of(told['records'])}\n\n{collapse.stopping_of(told['records'])}",
        "Skips and largest eigenvalue by epoch",
        lambda told: collapse.picture(told["records"]),
    ),
    "exactness": agreement(exactness.table),
    "exactness-digits": agreement(exactness.table, exactness.by_step),
    "snas_constraint": Shown(lambda told: snas_constraint.tables(told["rows"])),
    "precision": Shown(lambda told: precision.table(told["rows"])),
    "rows": Shown(lambda told: rows_table(told)),
}


def rows_table(told) -> str:
    """Seconds and bytes of every row, and of the peer, in Markdown."""
    rows, epochs = told["rows"], 50 * (25_000 // told["settings"]["batch"])
    heads = "row", "step, seconds", "over DARTS, first order", "50 epochs, hours", "memory, MB", "compiling, seconds"
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, one in rows.items():
        mega = f"{sum(show.memory(one).values()) / 1e6:,.0f}"
        parts = [one[f"{part}_seconds"] for part in ("trace", "lower", "compile") if f"{part}_seconds" in one]
        compiling = f"{sum(parts):.0f}" if parts else ""
        seconds = one["step_seconds"]
        hours = f"{seconds * epochs / 3600:.0f}"
        lines.append(f"| {name} | {seconds:.2f} | {one['over_base']:.2f} | {hours} | {mega} | {compiling} |")
    return "\n".join(lines)


def filled(page: str, folder: Path) -> str:
    """The page with each table as its record gives it."""

    def shown(match: re.Match) -> str:
        name, record = match[1], folder / f"{match[1]}.json"
        parts = [STUDIES[name].tables(json.loads(record.read_text()))] if record.exists() else ["*Not run yet.*"]
        if record.exists() and STUDIES[name].picture:
            parts.append(f"![{STUDIES[name].caption}]({picture(name).name})")
        return "\n\n".join([f"<!-- table: {name} -->", *parts, "<!-- end -->"])

    return re.sub(r"<!-- table: ([\w-]+) -->.*?<!-- end -->", shown, page, flags=re.S)


def picture(name: str) -> Path:
    return HERE.parent / "docs" / f"results-{name}.png"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(), HERE / "studies"))
    for path in sorted((HERE / "studies").glob("*.json")):
        if draw := STUDIES[path.stem].picture:
            drawing.save(draw(json.loads(path.read_text())), picture(path.stem))
