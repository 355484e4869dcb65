"""Compiles programs for devices that are not here, and reports what the compilers wrote.

    python -m benchmarks.ahead_of_time --target h200 --strategy darts-first-order --space darts
    python -m benchmarks.ahead_of_time --target h200,v5e --small --jobs 2 --json runs/ahead_of_time.json

Every program is compiled in a process of its own, so that a compiler that aborts is a row of the table. The exit status
is 1 where a program did not compile. Nothing runs: launches, bytes and estimated cycles are counts, not seconds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import compilers
from benchmarks.build import named
from benchmarks.command import run
from benchmarks.compilers import Job, Row
from benchmarks.programs import Program, check, title
from benchmarks.sets import SETS
from benchmarks.tables import details, programs_table
from benchmarks.targets import TARGETS
from jaxnas.folder import write

DEFAULT = Program()


def main(
    target: Annotated[str, typer.Option(help=f"What to compile for: {', '.join(TARGETS)}; commas between several.")],
    strategy: Annotated[str, typer.Option(help="A row of the table of methods.")] = DEFAULT.strategy,
    space: str = DEFAULT.space,
    stage: Annotated[int, typer.Option(help="Of a row that searches in stages, from 1; 0: the row in one.")] = 0,
    genotype: Annotated[str, typer.Option(help="A published cell: compiles a step of its retraining.")] = "",
    recipe: Annotated[str, typer.Option(help="How a genotype is retrained.")] = DEFAULT.recipe,
    channels: int = DEFAULT.channels,
    depth: int = DEFAULT.depth,
    batch: int = DEFAULT.batch,
    side: Annotated[int, typer.Option(help="Of the images, pixels.")] = DEFAULT.side,
    dtype: Annotated[str, typer.Option(help="Of the activations: float32 or bfloat16.")] = DEFAULT.dtype,
    layout: Annotated[str, typer.Option(help="How the supernet is written.")] = DEFAULT.layout,
    precision: Annotated[str, typer.Option(help="Of float32 products: default, float32, tf32, bfloat16.")] = "default",
    seeds: Annotated[int, typer.Option(help="Searches in one program.")] = 1,
    axis: Annotated[str, typer.Option(help="How they share the device: mapped or vmapped.")] = DEFAULT.axis,
    devices: int = 1,
    placement: Annotated[str, typer.Option(help="How devices share a step: mesh, mesh-local, pmap.")] = "mesh",
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the compiler; may be repeated.")] = None,
    small: Annotated[bool, typer.Option("--small", help="The set that is compiled every time.")] = False,
    budget: Annotated[bool, typer.Option("--budget", help="The set whose launches have budgets.")] = False,
    matrix: Annotated[bool, typer.Option("--matrix", help="Every row in every kind of space, and more.")] = False,
    jobs: Annotated[int, typer.Option(help="Processes side by side.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that one program may take.")] = 1800.0,
    only: Annotated[str, typer.Option(help="Of a set: the programs whose name holds this.")] = "",
    show: Annotated[bool, typer.Option(help="Launches by kind, and collectives, of each program.")] = False,
    hlo: Annotated[Path | None, typer.Option(help="Folder that gets the compiled texts.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder of reports; a program found there is not compiled.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="File that gets the results, after each program.")] = None,
) -> None:
    """What compilers make of programs, for devices that are not here."""
    sets = [name for name, wanted in (("small", small), ("budget", budget), ("matrix", matrix)) if wanted]
    one = Program(
        strategy, space, stage, genotype, recipe, channels, depth, batch, side, dtype, layout, precision, seeds, axis,
        devices, placement,
    )  # fmt: skip
    usual = Program()._asdict()
    alike = {name: v for name in ("dtype", "layout", "precision") if (v := getattr(one, name)) != usual[name]}
    programs = [p._replace(**alike) for name in sets for p in SETS[name]()] if sets else [one]
    targets, options = target.split(","), _options(option or [])
    refuse(targets, programs, jobs)
    wanted = [
        Job(target, program, options, _text(hlo, target, program), str(keep.absolute()) if keep else "")
        for target in targets
        for program in programs
        if only in title(program)
    ]
    if not wanted:
        raise ValueError(f"no program of the set has {only!r} in its name: {'; '.join(map(title, programs[:4]))}; ...")
    for folder in (hlo, out and out.parent):
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
    rows = compiled(wanted, jobs, timeout, out, console := Console())
    for text in (programs_table(rows), *(map(details, rows) if show else ())):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    broken = [row for row in rows if row.outcome != "compiled"]
    if broken:
        raise RuntimeError(f"{len(broken)} of {len(rows)} programs did not compile.")


def refuse(targets: Sequence[str], programs: Sequence[Program], jobs: int) -> None:
    """Raises a ValueError for what cannot be compiled, before anything is."""
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: at least one process.")
    for program in programs:
        check(program)
    for name in targets:
        if lacking := named(TARGETS, name, "target").missing():
            raise ValueError(lacking)


def compiled(jobs: Sequence[Job], at_once: int, timeout: float, out: Path | None, console: Console) -> list[Row]:
    """All rows, in the order of the jobs; the file holds those that are ready."""
    rows: list[Row] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("compiling", total=len(jobs))
        for row in compilers.run(jobs, at_once=at_once, timeout=timeout):
            rows = sorted([*rows, row], key=lambda row: jobs.index(row.job))
            progress.advance(task)
            progress.console.print(line(row), highlight=False, soft_wrap=True, markup=False)
            if out:
                write(out, json.dumps([record(row) for row in rows], indent=1) + "\n")
    return rows


def line(row: Row) -> str:
    """What became of a job, in one line."""
    what = f"{row.job.target}: {title(row.job.program)}"
    if row.outcome != "compiled":
        return f"{what}: {row.outcome} after {row.seconds:.0f} s: {row.last_line}"
    first = row.report["compiled_as"]
    alike = "" if first == title(row.job.program) else f", the text of {first}"
    return f"{what}: {row.report['launches']:,.0f} launches, {row.seconds:.0f} s{alike}"


def record(row: Row) -> dict[str, Any]:
    """A row as plain data."""
    job = {"target": row.job.target, "program": row.job.program._asdict(), "options": dict(row.job.options)}
    ended = {"outcome": row.outcome, "last_line": row.last_line, "seconds": row.seconds}
    return {"title": title(row.job.program), **job, **ended, **row.report}


def _options(given: Sequence[str]) -> dict[str, str]:
    wrong = [text for text in given if "=" not in text]
    if wrong:
        raise ValueError(f"--option {wrong[0]}: write NAME=VALUE.")
    return {name: value for name, _, value in (text.partition("=") for text in given)}


def _text(folder: Path | None, target: str, program: Program) -> str:
    name = "".join(c if c.isalnum() else "-" for c in f"{target}-{title(program)}").replace("--", "-")
    return str(folder.absolute() / f"{name}.txt") if folder else ""


if __name__ == "__main__":
    run(main)
