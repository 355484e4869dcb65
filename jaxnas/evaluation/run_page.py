"""A run as one HTML page: its cells, alpha over time, curves, what to know, settings and environment.

Where in the river: on the bank. Knows what a run's folder holds, as plain data; no files. Nothing is fetched, all is
escaped, and marks differ in shape or ink, not in colour.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from jaxnas.drawing import draw_cells
from jaxnas.evaluation.charts import heat, lines
from jaxnas.evaluation.decision import Decision, doubt
from jaxnas.evaluation.decision import told as in_words
from jaxnas.evaluation.outcomes import flat
from jaxnas.evaluation.page import document, table
from jaxnas.spaces.genotype import Genotype

Json = Mapping[str, Any]
CURVES = (  # (names in a record, label of the axis)
    (("train_loss", "valid_loss"), "loss, nats"),
    (("train_accuracy", "valid_accuracy"), "accuracy, share"),
    (("alpha_entropy",), "entropy of alpha, nats"),
    (("skips",), "skip connections, number"),
    (("train_grad_norm",), "weights' gradient norm, nats"),
    (("valid_grad_norm",), "alpha's gradient norm, nats"),
    (("rate",), "learning rate"),
    (("images_per_second",), "images per second"),
)


class Run(NamedTuple):
    """What a folder says."""

    name: str
    config: Json
    result: Json  # {} where the run is not over
    records: Sequence[Json]
    scores: Mapping[str, np.ndarray]  # {cell: [T, E, O]}; {} for a retraining
    genotype: Genotype | None
    edges: Sequence[tuple[int, int]] | None  # of the space, where it is known
    inputs: int | None


def page(run: Run) -> str:
    """The page as text.

    Args:
      run: what its folder says; it may not be over.
    """
    sections = {
        "Cells": _cells(run),
        "Alpha over time": _alpha(run),
        "Curves": _curves(run),
        "What to know": _rows(_notes(run)),
        "Settings": _rows(_plain(run.config)),
        "Environment": _rows(_plain(_environment(run.result))),
    }
    body = "\n".join(f"<section><h2>{title}</h2>{found}</section>" for title, found in sections.items() if found)
    return document(_title(run), _lead(run), body)


def _title(run: Run) -> str:
    what = run.config.get("strategy") or run.config.get("label") or "a network"
    verb = "trained from scratch" if "recipe" in run.config else "searches"
    return f"{what} {verb} on {run.config.get('dataset')}, seed {run.config.get('seed')}"


def _lead(run: Run) -> str:
    asked = run.config.get("epochs", run.config.get("recipe", {}).get("epochs", 0))
    epochs = sum(asked) if isinstance(asked, list) else asked
    test = (run.result.get("test") or {}).get("accuracy")
    told = f"The run {run.name}: {len(run.records)} of {epochs} epochs"
    over = "." if run.result else "; it is not over."
    return told + over + (f" {test:.2%} of the test images are right." if test is not None else "")


def _cells(run: Run) -> str:
    if run.genotype is None:
        return ""
    text, out = "", io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "jaxnas"}):
        draw_cells(run.genotype, run.inputs).savefig(out, format="svg", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", out.getvalue()[out.getvalue().index("<svg") :], flags=re.S)
    rows = [(cell, f"{c.source} → {c.target}", c.op) for cell in run.genotype.names for c in run.genotype.edges(cell)]
    edges = f"<details><summary>as a table</summary>{table(('cell', 'edge', 'operation'), rows)}</details>"
    return f'<figure class="paper">{text}</figure>{edges}'


def _alpha(run: Run) -> str:
    names = run.config.get("space", {}).get("ops") or []
    return "".join(
        f'<h3>{escape(cell)}</h3><figure class="small">{heat(found, _titles(run, found[-1], names), names, "epoch")}'
        "<figcaption>The darker, the larger the score that the operation has on this edge, which is named with the "
        "strongest operation and its score after the last epoch.</figcaption></figure>"
        for cell, found in run.scores.items()
        if len(found) and found.shape[2] == len(names)
    )


def _titles(run: Run, last: np.ndarray, names: Sequence[str]) -> list[str]:
    known = run.edges is not None and len(run.edges) == len(last)
    edges = [f"{s} → {t}" for s, t in run.edges] if known and run.edges else [f"edge {e}" for e in range(len(last))]
    return [f"{edge}  {names[int(row.argmax())]} {row.max():.2f}" for edge, row in zip(edges, last, strict=True)]


def _curves(run: Run) -> str:
    measured = dict.fromkeys(name for record in run.records for name in record.get("measured", {}))
    records = [{**record, **record.get("measured", {})} for record in run.records]
    mark = next((record["stopped"]["epoch"] for record in run.records if "stopped" in record), None)
    drawn = []
    for names, label in (*CURVES, *(((name,), name.replace("_", " ")) for name in measured)):
        points = {name.split("_")[0]: _points(records, name) for name in names}
        series = {name: found for name, found in points.items() if found}
        if series:
            drawn.append(f"<figure>{lines(series, 'epoch', label, mark)}</figure>")
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _points(records: Sequence[Json], name: str) -> list[tuple[float, float]]:
    found = [(record["epoch"], record[name]) for record in records if name in record]
    return [point for point in found if math.isfinite(point[1])]


def _notes(run: Run) -> list[tuple[str, str]]:
    """Warnings, why it ended, and what the numbers of the last epoch say."""
    said = [(f"epoch {r['epoch']}", text) for r in run.records for text in r.get("warnings", {}).values()]
    said += [(f"epoch {r['epoch']}", f"stopped: {r['stopped']['why']}") for r in run.records if "stopped" in r]
    answer = run.result.get("answer", {}).get("epoch")
    said += [("answer", f"the genotype of epoch {answer}")] if answer else []
    losses = _points(run.records, "valid_loss")
    if losses:
        epoch, least = min(losses, key=lambda point: point[1])
        said.append(
            ("validation loss", f"lowest in epoch {epoch}: {least:.4f}; after the last epoch {losses[-1][1]:.4f}")
        )
    entropy = _points(run.records, "alpha_entropy")
    if entropy:
        said.append(("entropy of alpha", f"{entropy[0][1]:.4f} nats after epoch 1, {entropy[-1][1]:.4f} at the end"))
    if found := run.result.get("decided"):
        said.append(("how decided alpha is", " ".join(how(Decision(**found)) for how in (in_words, doubt))))
    if run.records:
        told = run.records[-1].get("measured", {})
        said += [(name.replace("_", " "), f"{value:.4g} after the last epoch") for name, value in told.items()]
    return said or [("", "no epoch is finished.")]


def _environment(result: Json) -> dict[str, Any]:
    names = ("versions", "devices", "machine", "seconds", "memory_bytes", "cost")
    return {name: result[name] for name in names if result.get(name)}


def _rows(found: Sequence[tuple[str, str]]) -> str:
    return table(("what", "value"), found) if found else ""


def _plain(found: Json) -> list[tuple[str, str]]:
    return [(name, _said(value)) for name, value in flat(found).items()]


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)
