"""Writes the tables and pictures of docs/results.md from experiments/studies: `python -m experiments.results`.

A study's record lies in studies/NAME.json; its table goes between two marks of the page, and a link to its picture,
docs/results-NAME.png. Sentences around them are written by hand. Studies without a record leave a line that says so.
"""

import json
import re
from pathlib import Path

from experiments import collapse, combined, exactness, snas_constraint, truth
from jaxnas import drawing

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
TABLES = {
    "truth": lambda told: truth.table_of(told["records"]) + "\n\n" + truth.pairs_of(told["records"]),
    "combined": lambda told: f"{truth.table_of(told['records'])}\n\n{truth.pairs_of(told['records'], combined.PAIRS)}",
    "collapse": lambda told: collapse.table_of(told["records"]),
    "exactness": lambda told: exactness.table(told["rows"]),
    "snas_constraint": lambda told: snas_constraint.tables(told["rows"]),
    "rows": lambda told: rows_table(told["rows"]),
}
PICTURES = {  # what they show, and how they are drawn
    "truth": ("CIFAR-10 test accuracy of the cell behind each epoch", lambda told: truth.picture(told["records"])),
    "combined": ("CIFAR-10 test accuracy of the cell behind each epoch", lambda told: truth.picture(told["records"])),
    "collapse": ("Skips and largest eigenvalue by epoch", lambda told: collapse.picture(told["records"])),
    "exactness": ("Cosine and relative error along a search", lambda told: exactness.picture(told["rows"])),
}


def rows_table(rows) -> str:
    """Seconds and bytes of a step of every row, and of the peer, in Markdown."""
    lines = ["| row | step, seconds | over DARTS, first order | temporaries, MB | compiling, seconds |"]
    lines.append("|" + " --- |" * 5)
    first = rows["darts-first-order"]["step_seconds"]
    for name, one in rows.items():
        mega = f"{one['temporary_bytes'] / 1e6:.0f}" if "temporary_bytes" in one else ""
        parts = [one[f"{part}_seconds"] for part in ("trace", "lower", "compile") if f"{part}_seconds" in one]
        compiling = f"{sum(parts):.0f}" if parts else ""
        seconds = one["step_seconds"]
        lines.append(f"| {name} | {seconds:.2f} | {seconds / first:.2f} | {mega} | {compiling} |")
    return "\n".join(lines)


def filled(page: str, folder: Path) -> str:
    """The page with each table as its record gives it."""

    def table(match: re.Match) -> str:
        name, record = match[1], folder / f"{match[1]}.json"
        parts = [TABLES[name](json.loads(record.read_text()))] if record.exists() else ["*Not run yet.*"]
        if record.exists() and name in PICTURES:
            parts.append(f"![{PICTURES[name][0]}]({picture(name).name})")
        return "\n\n".join([f"<!-- table: {name} -->", *parts, "<!-- end -->"])

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, page, flags=re.S)


def picture(name: str) -> Path:
    return PAGE.parent / f"results-{name}.png"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), HERE / "studies"))
    for path in sorted((HERE / "studies").glob("*.json")):
        if path.stem in PICTURES:
            drawing.save(PICTURES[path.stem][1](json.loads(path.read_text())), picture(path.stem))
