"""Results of a device as Markdown, between two marks of a page; what nobody measured is said to be so.

Loads no JAX.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.device.plan import PAPER, Item, items

BEGIN, END = "<!-- device: begin -->", "<!-- device: end -->"
NOTHING = "not measured yet"
Results = Mapping[str, Any]


def filled(page: str, lines: Sequence[str], path: Path) -> str:
    """A page with the lines between its marks.

    Raises:
      ValueError: it does not have each mark once, in order.
    """
    begin, end = page.find(BEGIN), page.find(END)
    if page.count(BEGIN) != 1 or page.count(END) != 1 or end < begin:
        raise ValueError(f"{path} needs the line {BEGIN} once, and behind it the line {END} once.")
    return page[: begin + len(BEGIN)] + "\n" + "\n".join(lines) + "\n" + page[end:]


def lines(results: Results | None) -> list[str]:
    """The tables, from results or from none."""
    found = results["items"] if results else {}
    every = items(PAPER)
    of = lambda work: [item for item in every if kind(item) == work]
    return [
        machine(results),
        "",
        *markdown(("official numbers", "files", "quantities", "agree"), [parity(item, found) for item in of("parity")]),
        "",
        *markdown(STEP, [step(item, found) for item in every if kind(item) in ("step", "peer")]),
        "",
        *markdown(EPOCH, [epoch(item, found) for item in of("epoch")]),
    ]


def kind(item: Item) -> str:
    """What is measured: step, peer, parity or epoch."""
    return item.work.rpartition(".")[2]


STEP = ("step", "steps a second", "ms a step", "compile, s", "temporaries, MB", "peak, MB", "over eager PyTorch")
EPOCH = ("epoch", "steps", "seconds", "projected search, minutes")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def machine(results: Results | None) -> str:
    """On what, with what and when it was measured."""
    told = (results or {}).get("machine") or {}
    if not told:
        return "Nothing has been measured on a device yet."
    versions = told.get("versions", {})
    names = ", ".join(f"{name} {versions[name]}" for name in ("jax", "jaxlib", "python") if name in versions)
    torch = f", PyTorch {told['torch']}" if "torch" in told else ""
    stamps = [item for item in results["items"].values() if "date" in item]
    dates, commits = ({item.get(name) for item in stamps} - {None} for name in ("date", "commit"))
    days = sorted({date[:10] for date in dates})
    when = f"; {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    device, driver = told.get("device", "an unknown device"), told.get("driver") or told.get("runtime")
    code = f", commit {', '.join(sorted(commits))}" if commits else ""
    return f"Measured on {device} ({driver or 'driver not told'}); {names}{torch}{code}{when}."


def parity(item: Item, found: Results) -> list[str]:
    """Of how many quantities of the official codes the device's numbers agree."""
    rows = found.get(item.name, {}).get("rows", {})
    name = item.name.removeprefix("parity-")
    if not rows:
        return [name, *missing(item, found, 3)]
    counted = [row for row in rows.values() if "compared" in row]
    broken = [
        f"{row}: {told.get('aborted') or told.get('failed')}" for row, told in rows.items() if "compared" not in told
    ]
    files = f"{len(counted)} of {len(item.rows)}" + (f" ({'; '.join(map(cell, broken))})" if broken else "")
    compared, agree = (sum(row[key] for row in counted) for key in ("compared", "agree"))
    return [name, files, f"{compared:,}", f"{agree:,}"]


def step(item: Item, found: Results) -> list[str]:
    """Speed and size of a step of ours or of PyTorch's."""
    name, row = label(item), fastest(item.name, found)
    if row is None:
        return [name, *missing(item, found, len(STEP) - 1)]
    compile_ = sum(row.get(f"{part}_seconds", 0) for part in ("trace", "lower", "compile", "first_step"))
    if kind(item) == "peer" and not item.given["compiled"]:
        compile_ = 0
    beside = found[item.name].get("beside", 0)
    return [
        name,
        f"{row['steps_per_second']:.3g}",
        f"{1e3 * row['step_seconds']:.3g}",
        f"{compile_:.3g}" + (f" ({beside} beside)" if beside else "") if compile_ else "",
        mega(row.get("temporary_bytes")),
        mega(row.get("peak_bytes")),
        over_eager(item, row, found),
    ]


def fastest(name: str, found: Results) -> Mapping[str, Any] | None:
    """The row of an item with the fastest step; PyTorch's has two memory formats."""
    rows = [row for row in found.get(name, {}).get("rows", {}).values() if "step_seconds" in row]
    return min(rows, key=lambda row: row["step_seconds"], default=None)


def over_eager(item: Item, row: Mapping[str, Any], found: Results) -> str:
    """How many times as fast as the eager peer in its faster memory format, at the same batch and products."""
    order = {"darts-first-order": "first-order", "darts": "second-order"}.get(item.given["case"]["strategy"])
    eager = order and fastest(f"eager-{order}", found)
    if not eager or item.name.startswith("eager-") or item.given["case"].get("precision", "float32") != "float32":
        return ""
    return f"{row['steps_per_second'] / eager['steps_per_second']:.3g}"


WORDS = {  # of what stands behind the hyphen
    "step-second-order": "exact second order",
    "step-gdas": "GDAS",
    "step-pc-darts": "PC-DARTS",
    "eager-second-order": "PyTorch, eager, second order by finite difference",
}
GROUPS = {  # of what stands before it
    "step": "{}",
    "eager": "PyTorch, eager, {}",
    "compiled": "PyTorch, torch.compile, {}",
    "seeds": "first order, steps of all searches: {}",
    "precision": "first order, {}",
}


def label(item: Item) -> str:
    """An item in words."""
    group, _, which = item.name.partition("-")
    return WORDS.get(item.name) or GROUPS.get(group, f"first order, {group} {{}}").format(which.replace("-", " "))


def epoch(item: Item, found: Results) -> list[str]:
    """One real epoch and what a search would take."""
    row = found.get(item.name, {}).get("rows", {}).get("epoch")
    name = "CIFAR-10, first order, from JPEG bytes"
    if row is None:
        return [name, *missing(item, found, len(EPOCH) - 1)]
    steps = f"{row['steps']:,}" + ("" if row["whole"] else f" of {row['steps_of_an_epoch']:,}")
    search = f"{row['search_seconds'] / 60:.3g} ({row['search_epochs']} epochs)"
    return [name, steps, f"{row['epoch_seconds']:.3g}", search]


def missing(item: Item, found: Results, columns: int) -> list[str]:
    """What stands where there is no number: why, or that nobody measured."""
    told = found.get(item.name, {})
    why = f"{told['status']}: {told.get('why', '')}".rstrip(": ") if told.get("status") in ENDED else NOTHING
    return [cell(why), *[""] * (columns - 1)]


ENDED = ("failed", "aborted", "timed out")


def cell(text: str) -> str:
    """A text that breaks no table."""
    return " ".join(text.replace("|", "/").split())[:160]


def mega(size: int | None) -> str:
    """Bytes in millions; nothing where nobody told."""
    return "" if size is None else f"{size / 1e6:,.0f}"
