"""What a step of every row costs on this machine, in one run: `python -m benchmarks.rows`.

All rows on the same space, images and batch, each compiled, then its steps timed, round after round in turn; in the
middle of the search, where no row rests any more. A row that is impossible at this size is left out, with the reason on
record. The peer, DARTS in PyTorch, takes part where it is installed; its memory is measured in a process of its own.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.build import LENGTH, build
from benchmarks.case import Case
from benchmarks.machine import machine
from benchmarks.measure import compile_step, first_state, record, stepper, summary
from benchmarks.peers import alone, interleave, reason_against, settings
from benchmarks.show import memory
from jaxnas.folder import write
from jaxnas.names import STRATEGIES
from jaxnas.record import environment


def ready(case: Case):
    """A row's compiled step, and a function that makes the next one."""
    built, key = build(case), jax.random.key(case.seed)
    compiled, state = compile_step(built.search, built.batches, key), first_state(built.search, key)
    middle = state._replace(bilevel=state.bilevel._replace(step=jnp.int32(LENGTH * 3 // 5)))
    return compiled, stepper(compiled, middle, built.batches)


def all_ready(names: Iterable[str], case: Case, console: Console):
    """By name: functions that make the next step, what is known of the programs, and why a row is left out."""
    turns, found, left_out = {}, {}, {}
    for name in names:
        try:
            compiled, turns[name] = ready(case._replace(strategy=name))
        except ValueError as error:  # PC-DARTS for ImageNet wants channels that are a multiple of 6
            left_out[name] = str(error)
            console.print(f"{name}: left out, {error}", highlight=False)
            continue
        found[name] = record(compiled)
        console.print(f"{name}: compiled in {compiled.compile_seconds:.0f} s", highlight=False)
    return turns, found, left_out


def peers_ready(case: Case):
    """The same for both orders of DARTS in PyTorch, in its memory format channels last."""
    turns, found = {}, {}
    for row in (case._replace(strategy=name) for name in ("darts-first-order", "darts")):
        if reason_against(row) is None:
            from benchmarks.peer_run import contender

            options = settings(row, True, "", "default")
            found[f"PyTorch, {row.strategy}"] = {"options": options, "alone": alone(row, options)}
            turns[f"PyTorch, {row.strategy}"] = contender(row, options)[0].step
    return turns, found


def main(
    rows: Annotated[str, typer.Option(help="Names of strategies, with commas between; all unless given.")] = "",
    channels: int = 16,
    depth: int = 8,
    batch: int = 16,
    image: int = 32,
    steps: Annotated[int, typer.Option(help="Steps that are timed, of each.")] = 5,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Two rows, a tiny step; the sizes above are passed over.")
    ] = False,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("runs/rows.json"),
) -> None:
    """Seconds and bytes of a step of every row."""
    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compilation are measured
    if smoke:
        rows, channels, depth, batch, image, steps = "darts-first-order,gdas", 2, 3, 2, 8, 1
    out.parent.mkdir(parents=True, exist_ok=True)
    case = Case(channels=channels, depth=depth, batch=batch, image=image)
    result = measure(rows.split(",") if rows else STRATEGIES, case, steps)
    write(out, json.dumps(result, indent=1) + "\n")
    Console().print(table(result["rows"]))


def measure(names: Iterable[str], case: Case, steps: int) -> dict[str, Any]:
    """The record: machine, settings, and by row what is known of its program and its seconds."""
    turns, found, left_out = all_ready(names, case, Console())
    peers, beside = peers_ready(case)
    turns, found = {**turns, **peers}, {**found, **beside}
    for step in turns.values():
        step()
    seconds = interleave(turns, steps)
    return {
        "settings": case._asdict(),
        **environment(),
        "cores": os.cpu_count(),
        "machine_speed": machine()._asdict(),
        "left_out": left_out,
        "rows": {name: {**found[name], **summary(s, case.batch)._asdict()} for name, s in seconds.items()},
    }


def table(rows: dict[str, Any]) -> Table:
    """One line for each row."""
    shown = Table(
        "row", "step, seconds", "state and temporaries, MB", "StableHLO lines", "trace + lower + compile, seconds"
    )
    for name, one in rows.items():
        parts = [f"{one[part + '_seconds']:.1f}" for part in ("trace", "lower", "compile") if part + "_seconds" in one]
        mega = f"{sum(memory(one).values()) / 1e6:.0f}"
        lines = f"{one['stablehlo_lines']:,}" if "stablehlo_lines" in one else ""
        shown.add_row(name, f"{one['step_seconds']:.3g}", mega, lines, " + ".join(parts))
    return shown


if __name__ == "__main__":
    typer.run(main)
