"""Results for people: a table for the terminal and a picture of bars. Takes the record that is written as JSON."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

COLOURS = {"ours": "#2f6fb7", "eager": "#d9741a", "compiled": "#c0392f"}
NAMES = {"ours": "jaxnas", "eager": "PyTorch", "compiled": "PyTorch, compiled"}


def title(result: Mapping[str, Any]) -> str:
    """What was measured, in one line."""
    s = result["settings"]
    size = f"{s['channels']} channels, depth {s['depth']}, batch {s['batch']}, {s['image']}x{s['image']}"
    return f"{s['strategy']} on {s['space']}: {size}, {s['precision']}; {result['devices']['kind']}"


def runs(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Ours and the peers that ran."""
    peers = {name: p for name, p in result["peers"].items() if "step_seconds" in p}
    return {"ours": result["ours"], **peers}


def memory(run: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of the state and of a step's temporaries, where they are known."""
    found = run.get("alone") or run
    held, used = found.get("state_bytes", run.get("argument_bytes")), found.get("working_bytes")
    used = run.get("temporary_bytes") if used is None else used
    return {} if held is None or used is None else {"state": held, "temporaries": used}


def starts(result: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Seconds from nothing to the end of the first step, by who and which start."""
    found = {("ours", name): s["total_seconds"] for name, s in result["starts"].items()}
    for name, run in runs(result).items():
        if "first_step_seconds" in run.get("alone", {}):
            if name == "compiled":
                found[name, "cold"] = run["alone"]["import_seconds"] + run["first_step_seconds"]
            found[name, "second" if name == "compiled" else "any"] = run["alone"]["first_step_seconds"]
    return found


def table(result: Mapping[str, Any]) -> Table:
    """One row for each number, one column for ours and each peer."""
    columns = runs(result)
    shown = Table("", title=title(result), title_justify="left")
    for name in columns:
        shown.add_column(NAMES[name], justify="right")
    for label, values in rows(result, columns):
        shown.add_row(label, *values)
    return shown


def rows(result: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]):
    """Labels and cells, as text."""
    each = lambda text: [text(run) for run in columns.values()]
    first = lambda *texts: [*texts, *[""] * (len(columns) - len(texts))]
    ours, machine, step_flops = result["ours"], result["machine"], result["work"]["step_flops"]
    yield "step, seconds (median)", each(lambda run: _three(run["step_seconds"]))
    yield "images per second", each(lambda run: _three(run["images_per_second"]))
    if len(columns) > 1:
        yield "seconds over ours", each(lambda run: f"{run['step_seconds'] / ours['step_seconds']:.2f}")
    if step_flops:
        yield "GFLOP/s", each(lambda run: _three(step_flops / run["step_seconds"] / 1e9))
    if len(columns) > 1:
        yield "first step, with what it compiles", each(lambda run: _three(run.get("first_step_seconds")))
    if "compiled" in columns:
        yield "gradients beside the eager ones", each(lambda run: _two(run.get("gradients_differ_by")))
    yield "state, MB", each(lambda run: _mega(memory(run).get("state")))
    yield "temporaries, MB", each(lambda run: _mega(memory(run).get("temporaries")))
    yield "trace, lower, compile, seconds", first(_seconds(ours))
    yield "StableHLO lines", first(f"{ours['stablehlo_lines']:,}")
    if result["seeds"]:
        seeds = result["seeds"]
        yield (
            f"{seeds['count']} searches {seeds['axis']}, seconds for a step of each",
            first(_three(seeds["search_seconds"])),
        )
    for name, start in result["starts"].items():
        yield f"{name} start, seconds to the first step", first(f"{start['total_seconds']:.1f}")
    yield "machine: GFLOP/s of a matrix product", first(f"{machine['matmul_gflops']:.4g}")
    yield "machine: GB/s of a copy", first(_three(machine["copy_gb_per_second"]))


def _mega(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f}"


def _three(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"


def _two(number: float | None) -> str:
    return "" if number is None else f"{number:.2g} apart"


def _seconds(run: Mapping[str, Any]) -> str:
    return " + ".join(f"{run[f'{part}_seconds']:.1f}" for part in ("trace", "lower", "compile"))


def picture(result: Mapping[str, Any]) -> Figure:
    """Bars of seconds for each step, of memory, and of the start where ours was measured."""
    columns, begun = runs(result), starts(result) if result["starts"] else {}
    figure = Figure(figsize=(11 if begun else 7.5, 3.4), layout="constrained")
    figure.suptitle(title(result), fontsize=10)
    axes = figure.subplots(1, 3 if begun else 2)
    bars(axes[0], {name: run["step_seconds"] for name, run in columns.items()}, "seconds for each step")
    stacked(axes[1], {name: memory(run) for name, run in columns.items()}, "memory, MB")
    if begun:
        start_bars(axes[2], begun, "seconds to the first step")
    return figure


def bars(axes: Axes, values: Mapping[str, float], label: str) -> None:
    """One bar for each contender, its number on it."""
    drawn = axes.bar([_broken(NAMES[n]) for n in values], list(values.values()), color=[COLOURS[n] for n in values])
    axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
    _finish(axes, label)


def stacked(axes: Axes, values: Mapping[str, Mapping[str, int]], label: str) -> None:
    """Temporaries on top of the state."""
    known = {name: parts for name, parts in values.items() if parts}
    names, colours = [_broken(NAMES[n]) for n in known], [COLOURS[n] for n in known]
    states = [parts["state"] / 1e6 for parts in known.values()]
    used = [parts["temporaries"] / 1e6 for parts in known.values()]
    axes.bar(names, states, color=colours, alpha=0.5)
    top = axes.bar(names, used, bottom=states, color=colours)
    axes.bar_label(
        top,
        [f"{a + b:,.3g}" if a + b < 100 else f"{a + b:,.0f}" for a, b in zip(states, used, strict=True)],
        fontsize=8,
        padding=2,
    )
    _finish(axes, f"{label} (pale: weights, momenta, alpha)")


def start_bars(axes: Axes, values: Mapping[tuple[str, str], float], label: str) -> None:
    """One bar for each kind of start."""
    names = [_broken(NAMES[who]) + ("" if kind == "any" else f"\n{kind}") for who, kind in values]
    drawn = axes.bar(names, list(values.values()), color=[COLOURS[who] for who, _ in values])
    axes.bar_label(drawn, fmt="%.3g", fontsize=8, padding=2)
    _finish(axes, label)


def _broken(name: str) -> str:
    return name.replace(", ", ",\n")


def _finish(axes: Axes, label: str) -> None:
    axes.set_title(label, fontsize=9)
    axes.margins(y=0.15)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
