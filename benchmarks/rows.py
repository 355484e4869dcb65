"""What a step of every row costs on this machine, in one run: `python -m benchmarks.rows`.

All rows on the same space, images and batch, a few in each process beside first-order DARTS, in turn with it: what
compares rows is their ratio to it. A row that is impossible at this size is left out, with the reason. PyTorch's DARTS
takes part where it is installed. What is measured is on disk before the next process begins.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.build import named
from benchmarks.case import Case
from benchmarks.child import ask
from benchmarks.command import run
from benchmarks.machine import machine
from benchmarks.show import memory
from benchmarks.side_by_side import PEER
from jaxnas.folder import write
from jaxnas.names import STRATEGIES
from jaxnas.record import environment

BASE = "darts-first-order"
TOGETHER = 6  # programs take thousands of memory maps each, and Linux gives a process 65,530
ANEW = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # seconds of compilation are measured


def groups(names: Sequence[str]) -> Iterator[list[str]]:
    """The base and a few others, until each is in one group."""
    others = [name for name in names if name != BASE]
    for at in range(0, max(1, len(others)), TOGETHER):
        yield [BASE, *others[at : at + TOGETHER]]


def beside_base(rows: dict[str, Any]) -> dict[str, Any]:
    """The rows of one process, each with the median of its ratios to the base, round by round."""
    base = rows[BASE]["all_seconds"]
    ratio = lambda row: median(own / first for own, first in zip(row["all_seconds"], base, strict=True))
    return {name: {**row, "over_base": ratio(row)} for name, row in rows.items()}


def main(
    rows: Annotated[str, typer.Option(help="Names of strategies, with commas between; all unless given.")] = "",
    channels: Annotated[int, typer.Option(help="Width of the first cells; DrNAS needs a multiple of 6.")] = 12,
    depth: int = 8,
    batch: int = 16,
    image: int = 32,
    steps: Annotated[int, typer.Option(help="Steps that are timed, of each.")] = 5,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two rows, one tiny step; whatever else is said.")] = False,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("runs/rows.json"),
) -> None:
    """Seconds and bytes of a step of every row."""
    if smoke:
        rows, channels, depth, batch, image, steps = f"{BASE},gdas", 2, 3, 2, 8, 1
    chosen = rows.split(",") if rows else list(STRATEGIES)
    for name in chosen:
        named(STRATEGIES, name, "strategy")
    out.parent.mkdir(parents=True, exist_ok=True)
    case, console = Case(channels=channels, depth=depth, batch=batch, image=image), Console()
    names = [*chosen, *(PEER + name for name in (BASE, "darts"))]
    result: dict[str, Any] = {"settings": case._asdict(), **environment(), "cores": os.cpu_count()}
    result |= {"machine_speed": machine()._asdict(), "left_out": {}, "rows": {}}
    for group in groups(names):
        found = ask("benchmarks.side_by_side", [group, case, steps], ANEW)
        if BASE in found["left_out"]:
            raise ValueError(found["left_out"][BASE])
        result["left_out"] |= found["left_out"]
        for name, row in beside_base(found["rows"]).items():
            result["rows"].setdefault(name, row)  # the base as in the first group
        write(out, json.dumps(result, indent=1) + "\n")
        console.print(f"measured: {', '.join(found['rows'])}", highlight=False)
        for name, reason in found["left_out"].items():
            console.print(f"left out: {name}: {reason}", highlight=False)
    console.print(table(result["rows"]))


def table(rows: dict[str, Any]) -> Table:
    """One line for each row."""
    shown = Table("row", "step, seconds", f"over {BASE}", "memory, MB", "lines", "trace + lower + compile, seconds")
    for name, one in rows.items():
        parts = [f"{one[part + '_seconds']:.1f}" for part in ("trace", "lower", "compile") if part + "_seconds" in one]
        mega = f"{sum(memory(one).values()) / 1e6:.0f}"
        lines = f"{one['stablehlo_lines']:,}" if "stablehlo_lines" in one else ""
        shown.add_row(name, f"{one['step_seconds']:.3g}", f"{one['over_base']:.2f}", mega, lines, " + ".join(parts))
    return shown


if __name__ == "__main__":
    run(main)
