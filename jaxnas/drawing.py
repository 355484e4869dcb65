"""Pictures: cells as graphs, scores and losses as curves.

Where in the river: on the bank, looking on. It takes a `Genotype`, scores or logged records and returns
a figure of matplotlib; it knows no space, no strategy, no runs, and leaves matplotlib's global state alone.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from jaxnas import arcs as geometry
from jaxnas.arcs import BOX, FONT, Arc
from jaxnas.picture import Picture
from jaxnas.spaces.genotype import Genotype

FAMILIES = ("none", "skip", "pool", "dil", "sep", "conv", "")  # an op's name contains it: the first that fits
COLOURS = ("#a9a9a9", "#5f6770", "#2f6fb7", "#d9741a", "#2c8c4a", "#c0392f", "#7d4ea3")
MARKS = ("x", "P", "o", "^", "s", "D", "v")  # so that families differ without colours too
PANELS = (("train_loss", "valid_loss"), ("train_accuracy", "valid_accuracy"), ("alpha_entropy",), ("skips",))
UNITS = {"train_loss": "nats", "train_accuracy": "share of images", "alpha_entropy": "nats", "skips": "edges"}
VARIANTS = (("-", "full"), ((0, (4, 1.5)), "none"), ((0, (1, 1)), "top"), ((0, (5, 1, 1, 1)), "left"))  # in a family
INK = "#2b2f33"
QUIET = "#c3c9cf"


def draw_cells(genotype: Genotype, inputs: int | None = None) -> Picture:
    """Every cell of a genotype as a graph from left to right, edges labelled with their operations.

    Inputs are c_{k-2} and c_{k-1} (or only c_{k-1}), nodes bear their state's number, c_k is the output: the
    states that hang on the grey rail below the cell (or the last node alone).

    Args:
      genotype: what to draw.
      inputs: states that a cell starts from. Unless given, those before the first node that an edge reaches in any
        cell: too many where no cell has an edge into its first node (FairDARTS), so give `space.inputs` where known.
    """
    arcs = {cell: geometry.lay(genotype.edges(cell)) for cell in genotype.names}
    choices = [choice for cell in genotype.names for choice in genotype.edges(cell)]
    inputs = inputs or min(choice.target for choice in choices)
    step = BOX[0] + max(0.8, *(geometry.inches(choice.op) + 0.42 for choice in choices))
    bounds = {cell: geometry.bounds(arcs[cell]) for cell in genotype.names}
    width = (max(choice.target for choice in choices) + 1) * step + 1.1
    height = y = sum(top - bottom for bottom, top in bounds.values()) + 0.1
    figure = Picture(figsize=(width, height))
    for cell, (bottom, top) in bounds.items():
        y -= top - bottom
        axes = figure.add_axes((0, y / height, 1, (top - bottom) / height), label=cell)
        axes.axis((-0.55, width - 0.55, bottom, top))
        axes.set_axis_off()
        axes.text(-0.36, top - 0.16, cell, fontsize=FONT + 3, weight="bold", color=INK, va="top")
        _draw_cell(axes, arcs[cell], genotype.concat(cell), step, inputs)
    return figure


def _draw_cell(axes: Axes, arcs: Sequence[Arc], outputs: tuple[int, ...], step: float, inputs: int) -> None:
    states = max(arc.choice.target for arc in arcs) + 1
    for state in range(states):
        name = f"$c_{{k-{inputs - state}}}$" if state < inputs else str(state)
        idle = state >= inputs and all(arc.choice.target != state for arc in arcs)
        _draw_state(axes, state * step, name, "#eef1f4" if state < inputs else "#ffffff", QUIET if idle else INK)
    _draw_state(axes, states * step, "$c_k$", "#eef1f4")
    _draw_outputs(axes, arcs, outputs, step)
    curves = [geometry.curve(arc, port, step) for arc, port in zip(arcs, geometry.ports(arcs), strict=True)]
    rails = [Path([(x * step, -BOX[1] / 2), (x * step, geometry.bounds(arcs)[0])]) for x in outputs]
    spots = geometry.spots([arc.choice.op for arc in arcs], curves, rails)
    for i, (arc, curve) in enumerate(zip(arcs, curves, strict=True)):
        _draw_edge(axes, arc.choice.op, curve, spots[i], f"{axes.get_label()}-edge-{i}")


def _draw_state(axes: Axes, x: float, name: str, face: str, ink: str = INK) -> None:
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.12", "edgecolor": ink, "zorder": 4}
    axes.add_patch(FancyBboxPatch((x - BOX[0] / 2, -BOX[1] / 2), *BOX, facecolor=face, **style))
    axes.text(x, 0, name, fontsize=FONT + 1, color=ink, ha="center", va="center_baseline", zorder=5)


def _draw_outputs(axes: Axes, arcs: Sequence[Arc], outputs: tuple[int, ...], step: float) -> None:
    """The states that make the output: a rail under the cell, or a straight arrow from the last node."""
    states = max(arc.choice.target for arc in arcs) + 1
    end = states * step - BOX[0] / 2
    points = [(end - step + BOX[0], 0.0), (end, 0.0)]
    if outputs != (states - 1,):
        rail = geometry.bounds(arcs)[0] + 0.2
        points = [(min(outputs) * step, rail), (states * step, rail), (states * step, -BOX[1] / 2)]
        for state in outputs:
            axes.plot([state * step] * 2, [-BOX[1] / 2, rail], color=QUIET, lw=1.2, zorder=1)
    _draw_arrow(axes, Path(points), f"{axes.get_label()}-output", color=QUIET, lw=1.2, zorder=1)


def _draw_arrow(axes: Axes, path: Path, gid: str, **style: Any) -> None:
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=11, gid=gid, **style))


def _draw_edge(axes: Axes, op: str, curve: Path, spot: np.ndarray, gid: str) -> None:
    colour, dash = COLOURS[_family(op)], (0, (4, 3)) if op == "none" else "solid"
    _draw_arrow(axes, curve, gid, color=colour, lw=1.5, ls=dash, zorder=2)
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    text = axes.text(spot[0], spot[1], op, fontsize=FONT, color=colour, gid=f"{gid}-label", **middle)
    text.set_bbox({"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"})


def _family(op: str) -> int:
    return next(i for i, part in enumerate(FAMILIES) if part in op)


def draw_alpha(history: Mapping, op_names: Sequence[str], edges: Sequence, cells: Sequence[str]) -> Picture:
    """The scores of every operation over the epochs: one small plot per edge, one row per node, one legend.

    Args:
      history: for every cell type its scores, `[T, E, O]`.
      op_names, edges: the O operations and the E edges, (source, target).
      cells: the cell types to draw.

    Raises:
      ValueError: if a cell type is missing or its scores have another shape.
    """
    tables = {cell: _table(history, cell, (len(edges), len(op_names))) for cell in cells}
    places = _places(edges)
    rows, columns = (max(place) + 1 for place in zip(*places, strict=True))
    size = max(1.9 * columns, 4.0), (1.25 * rows + 0.35) * len(cells) + 0.8
    figure = Picture(figsize=size, layout="constrained")
    top = 1.04 * max(table.max() for table in tables.values())
    for part, cell in zip(figure.subfigures(len(cells), squeeze=False).flat, cells, strict=True):
        part.suptitle(cell, fontsize=FONT + 3, weight="bold", color=INK, x=0.01, ha="left")
        part.supxlabel("epoch", fontsize=FONT)
        part.supylabel("score: mean of the gates", fontsize=FONT)
        grid = part.add_gridspec(rows, columns)
        for e, place in enumerate(places):
            axes = part.add_subplot(grid[place])
            _draw_scores(axes, tables[cell][:, e], op_names, top)
            axes.set_title("{}\N{RIGHTWARDS ARROW}{}".format(*edges[e]), fontsize=FONT, pad=3, color=INK)
            axes.tick_params(labelleft=place[1] == 0, labelbottom=(place[0] + 1, place[1]) not in places)
    figure.legend(handles=axes.lines, loc="outside lower center", ncols=4, frameon=False, fontsize=FONT)
    return figure


def _table(history: Mapping, cell: str, shape: tuple[int, int]) -> np.ndarray:
    table = np.asarray(history.get(cell, ()), float)
    if table.ndim != 3 or table.shape[1:] != shape or not table.size:
        raise ValueError(f"scores of {cell!r}: expected the shape [T, *{shape}], got {table.shape}.")
    return table


def _places(edges: Sequence) -> list[tuple[int, int]]:
    """(row, column) of every edge: a row for every node, or rows of five where a node has one edge only."""
    targets = [target for _, target in edges]
    if len(set(targets)) == len(targets):
        return [divmod(e, 5) for e in range(len(edges))]
    nodes = sorted(set(targets))
    return [(nodes.index(target), targets[:e].count(target)) for e, target in enumerate(targets)]


def _draw_scores(axes: Axes, scores: np.ndarray, op_names: Sequence[str], top: float) -> None:
    families, epochs = [_family(op) for op in op_names], range(1, 1 + len(scores))
    for o, op in enumerate(op_names):
        dash, fill = VARIANTS[families[:o].count(families[o]) % len(VARIANTS)]
        style: dict[str, Any] = {"marker": MARKS[families[o]], "fillstyle": fill, "color": COLOURS[families[o]]}
        style |= {"ls": "" if len(scores) == 1 else dash, "markevery": max(1, len(scores) // 6)}
        axes.plot(epochs, scores[:, o], label=op, lw=1.4, ms=3.5, **style)
    axes.set(ylim=(0, top), xlim=(1, len(scores)) if len(scores) > 1 else (0, 2))
    axes.set_xticks([1]) if len(scores) == 1 else axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    _quieten(axes)


def draw_curves(records: Sequence[Mapping[str, Any]], undecided: float | None = None) -> Picture:
    """Losses, accuracies, entropy, skips and what else was measured over the epochs; a grey line at the answer's epoch.

    Args:
      records: as logged: epoch, {train,valid}_loss, {train,valid}_accuracy, alpha_entropy, skips; {"measured": {name:
        number}} and {"stopped": {"epoch": the answer's}} where there are such.
      undecided: entropy of gates that are all alike, nats; a dotted line.

    Raises:
      ValueError: if they hold none of these.
    """
    answers = [record["stopped"]["epoch"] for record in records if "stopped" in record]
    measured = dict.fromkeys(name for record in records for name in record.get("measured", {}))
    records = [{**record, **record.get("measured", {})} for record in records]
    logged = {key for record in records for key in record}
    panels = [keys for keys in (*PANELS, *((name,) for name in measured)) if logged & set(keys)]
    if not panels:
        raise ValueError(f"nothing to draw: no record has one of {', '.join(sum(PANELS, ()))}.")
    rows, columns = -(-len(panels) // 4), min(len(panels), 4)
    figure = Picture(figsize=(3.4 * columns, 2.7 * rows), layout="constrained")
    for place, keys in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        for key in [key for key in keys if key in logged]:
            points = np.array([(r.get("epoch", i), r[key]) for i, r in enumerate(records) if key in r])
            colour, dash = (COLOURS[3], VARIANTS[1][0]) if key.startswith("valid") else (COLOURS[2], "-")
            style: dict[str, Any] = {"color": colour, "ls": dash, "marker": "o" if len(points) < 3 else "", "ms": 4}
            axes.plot(*points.T, label=key.split("_")[0], **style)
        if undecided is not None and keys == ("alpha_entropy",):
            axes.axhline(undecided, color=INK, ls=":", lw=1.2, label="undecided")
            axes.legend(frameon=False, fontsize=FONT, loc="lower left")
            axes.set_ylim(0, 1.05 * max(undecided, *(record[keys[0]] for record in records), 1e-3))
        for answer in answers:
            axes.axvline(answer, color=QUIET, lw=1.2, zorder=0)
        axes.set_title(keys[0].removeprefix("train_").replace("_", " "), fontsize=FONT + 1, color=INK)
        axes.set_xlabel("epoch", fontsize=FONT)
        axes.set_ylabel(UNITS.get(keys[0], ""), fontsize=FONT)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=keys == ("skips",)))
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.legend(frameon=False, fontsize=FONT) if len(keys) > 1 else None
        _quieten(axes)
    return figure


def draw_agreement(scores: Mapping[str, Mapping[str, Any]]) -> Picture:
    """How far seeds agree: for each cell type the Pearson correlation of the scores of every two runs.

    Args:
      scores: of each run, by its label, {cell: [E, O]}; mean gates or stacked scores of seeds. Scores that do not vary
        correlate 0, as in `diagnostics.correlation`.

    Raises:
      ValueError: for fewer than two runs, or runs with other cells or shapes than the first.
    """
    shapes = {name: {cell: np.shape(table) for cell, table in found.items()} for name, found in scores.items()}
    labels, first = list(scores), next(iter(shapes.values()), {})
    wrong = [name for name in labels if shapes[name] != first]
    if len(labels) < 2 or wrong:
        what = f"{wrong[0]} has {shapes[wrong[0]]}, {labels[0]} {first}" if wrong else f"{len(labels)} given"
        raise ValueError(f"agreement is between two runs or more of one space: {what}.")
    side = 0.55 * len(labels) + 1.4
    figure = Picture(figsize=((side + 0.3) * len(first) + 0.6, side), layout="constrained")
    for axes, cell in zip(figure.subplots(1, len(first), squeeze=False).flat, first, strict=True):
        matrix = _correlations(np.stack([np.ravel(scores[name][cell]) for name in labels]))
        image = axes.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if abs(value) > 0.6 else INK
            axes.text(column, row, f"{value:.2f}", fontsize=FONT - 1, color=colour, ha="center", va="center")
        pairs = matrix[np.triu_indices(len(labels), 1)]
        axes.set_title(f"{cell}: mean {pairs.mean():.2f}", fontsize=FONT + 1, color=INK)
        axes.set_xticks(range(len(labels)), labels, fontsize=FONT - 1, rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), labels, fontsize=FONT - 1)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, label="correlation", shrink=0.8)
    return figure


def _correlations(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(-1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit = centred / np.where(lengths, lengths, 1)
    return unit @ unit.T


def _quieten(axes: Axes) -> None:
    axes.tick_params(labelsize=FONT - 1.5, color=QUIET, length=2.5)
    axes.grid(color="#eceff1", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure whole or not at all, as PNG (150 dpi) or SVG; ValueError for another suffix.

    Args:
      figure: from one of the functions above.
      path: where to; .png or .svg.
    """
    target = pathlib.Path(path)
    kind = target.suffix.lower()[1:]
    if kind not in ("png", "svg"):
        raise ValueError(f"cannot write {target.name!r}: pictures are .png or .svg.")
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        with matplotlib.rc_context({"svg.hashsalt": "jaxnas"}):
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
