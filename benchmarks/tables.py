"""Compiled programs for people: a table in Markdown, and launches by kind."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.compilers import Row
from benchmarks.programs import title

MEGA = 1e6
COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "launches": lambda r: f"{r['launches']:,.0f}",
    "transposes, copies of activations": lambda r: f"{r['transposes']:,.0f}, {r['copies']:,.0f}",
    "estimated cycles": lambda r: "" if r["cycles"] is None else f"{r['cycles']:,.0f}",
    "temporaries, MB": lambda r: mega(r["temporary_bytes"]),
    "arguments, MB": lambda r: mega(r["argument_bytes"]),
    "GFLOP, loops once": lambda r: "" if not r["flops"] else f"{r['flops'] / 1e9:,.3g}",
    "collectives": lambda r: collectives(r),
    "loops of unknown length": lambda r: str(r["loops"]["unknown"] or ""),
    "lines": lambda r: f"{r['stablehlo_lines']:,}",
    "lower + compile, s": lambda r: f"{r['lower_seconds']:.0f} + {r['compile_seconds']:.0f}",
}


def programs_table(rows: Sequence[Row]) -> str:
    """One line for each program; a column that no program fills is left out."""
    reports = [row.report for row in rows if row.report]
    shown = [name for name, cell in COLUMNS.items() if any(cell(report) for report in reports)] or ["outcome"]
    lines = [("target", "program", *shown), ("---",) * (2 + len(shown))]
    for row in rows:
        cells = [COLUMNS[name](row.report) for name in shown] if row.report else _broken(row, len(shown))
        lines.append((row.job.target, title(row.job.program), *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _broken(row: Row, width: int) -> list[str]:
    return [f"{row.outcome}: {row.last_line}".replace("|", "/"), *[""] * (width - 1)]


def details(row: Row) -> str:
    """Launches by kind, most first, and what is sent between devices; or why there are none."""
    if not row.report:
        return f"{row.job.target}: {title(row.job.program)}: {row.outcome}: {row.last_line}"
    kinds = ", ".join(f"{number:,.0f} {kind}" for kind, number in row.report["kinds"].items())
    sent = collectives(row.report)
    return f"{row.job.target}: {title(row.job.program)}: {kinds}" + (f"; between devices {sent}" if sent else "")


def collectives(report: Mapping[str, Any]) -> str:
    """Number and megabytes of each kind of collective."""
    one = lambda kind, sent: f"{sent['number']:,.0f} {kind} ({sent['bytes'] / MEGA:,.4g} MB)"
    return ", ".join(one(kind, sent) for kind, sent in report["collectives"].items())


def mega(size: int | None) -> str:
    """Bytes in megabytes; "" where they are not known."""
    return "" if size is None else f"{size / MEGA:,.1f}"
