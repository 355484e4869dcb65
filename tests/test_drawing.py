"""Pictures: the right arrows, labels and lines, nothing on top of each other, files written whole."""

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch
from published import BENCHMARK

from jaxnas import folder
from jaxnas.drawing import draw_agreement, draw_alpha, draw_cells, draw_curves, save
from jaxnas.evaluation.diagnostics import correlation
from jaxnas.spaces.genotype import genotype, read

EVERY = [(s, t) for t in range(2, 6) for s in range(t)]
OPS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")
CELLS = {
    "benchmark": read(BENCHMARK),
    "pairs": genotype(
        "darts",
        {
            "normal": [("sep_conv_3x3", s, t) for t in range(2, 6) for s in (0, 1)],
            "reduce": [("max_pool_3x3", s, t) for t in range(2, 6) for s in (t - 2, t - 1)],
        },
        {"normal": (2, 3, 4, 5), "reduce": (2, 3, 4, 5)},
    ),
    "edge_all": genotype(
        "darts",
        {"normal": [(OPS[i % 6], s, t) for i, (s, t) in enumerate(EVERY)]},
        {"normal": (2, 3, 4, 5)},
    ),
    "parallel": genotype("darts", {"normal": [("avg_pool_3x3", 0, 2)] * 2 + [("a", 1, 2)] * 2}, {"normal": (2,)}),
    "one edge": genotype("tiny", {"cell": [("skip_connect", 0, 1)]}, {"cell": (1,)}),
    "early output": genotype("tiny", {"cell": [("a", 0, 1), ("b", 1, 2)]}, {"cell": (1,)}),
}


def arrows(axes):
    return [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def labels(axes):
    return [text for text in axes.texts if str(text.get_gid()).endswith("label")]


def boxes(figure, texts):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


@pytest.mark.parametrize("name", CELLS)
def test_every_edge_has_an_arrow_and_its_label(name):
    figure = draw_cells(CELLS[name])
    assert [axes.get_label() for axes in figure.axes] == list(CELLS[name].names)
    for axes in figure.axes:
        edges = CELLS[name].edges(axes.get_label())
        assert len(arrows(axes)) == len(edges) + 1  # the output is one more
        assert sorted(text.get_text() for text in labels(axes)) == sorted(edge.op for edge in edges)


@pytest.mark.parametrize("name", CELLS)
def test_no_two_labels_overlap_and_none_is_clipped(name):
    figure = draw_cells(CELLS[name])
    for axes in figure.axes:
        found = boxes(figure, axes.texts)
        assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
        for box in found:
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_parallel_arrows_take_different_ways():
    (axes,) = draw_cells(CELLS["parallel"]).axes
    ways = {tuple(np.round(arrow.get_path().vertices, 6).ravel()) for arrow in arrows(axes)}
    assert len(ways) == 5


def test_inputs_are_named_by_their_number():
    names = [text.get_text() for text in draw_cells(CELLS["pairs"]).axes[0].texts]
    assert "$c_{k-2}$" in names and "$c_{k-1}$" in names and "5" in names
    assert "$c_{k-2}$" not in [text.get_text() for text in draw_cells(CELLS["benchmark"]).axes[0].texts]


def test_a_first_node_without_an_edge_is_no_input():
    """As FairDARTS decodes; where the number of inputs is not given, another cell's first node tells it."""
    cells = {"normal": [("skip_connect", 1, 4), ("sep_conv_3x3", 0, 4)], "reduce": [("skip_connect", 0, 2)]}
    found = genotype("darts", cells, {"normal": [4], "reduce": [2]})
    alone = genotype("mine", {"normal": cells["normal"]}, {"normal": [4]})
    for figure in (draw_cells(found), draw_cells(alone, inputs=2)):
        names = {text.get_text() for text in figure.axes[0].texts}
        assert {"$c_{k-2}$", "$c_{k-1}$", "2", "3", "4"} <= names and "$c_{k-3}$" not in names


@pytest.mark.parametrize("epochs", (1, 2, 5))
def test_alpha_has_a_plot_per_edge_and_a_line_per_operation(epochs):
    scores = np.random.default_rng(0).dirichlet(np.ones(6), size=(epochs, 14))
    figure = draw_alpha({"normal": scores, "reduce": scores}, OPS, EVERY, ("normal", "reduce"))
    assert len(figure.axes) == 28 and {len(axes.lines) for axes in figure.axes} == {6}
    assert [axes.get_title() for axes in figure.axes[:3]] == ["0→2", "1→2", "0→3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(OPS)
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_ydata(), scores[:, 1, 2])
    assert {line.get_linestyle() == "None" for line in figure.axes[0].lines} == {epochs == 1}
    looks = {(line.get_marker(), line.get_fillstyle()) for line in figure.axes[0].lines}
    assert len(looks) == len(OPS)  # told apart without colours


def test_alpha_of_a_chain_is_wrapped():
    edges = [(i, i + 1) for i in range(12)]
    figure = draw_alpha({"cell": np.full((3, 12, 2), 0.5)}, ("a", "b"), edges, ("cell",))
    assert len({axes.get_subplotspec().colspan.start for axes in figure.axes}) == 5


@pytest.mark.parametrize("history", [{}, {"cell": np.ones((3, 2, 2))}, {"cell": np.ones((1, 2))}])
def test_alpha_of_another_shape_is_refused(history):
    with pytest.raises(ValueError, match="cell"):
        draw_alpha(history, ("a", "b"), [(0, 1)], ("cell",))


def test_curves_draw_what_the_records_have():
    records = [{"epoch": i, "train_loss": 1 / (i + 1), "valid_loss": 1.0, "skips": i} for i in range(4)]
    del records[2]["valid_loss"]
    loss, skips = draw_curves(records).axes
    assert [len(line.get_xdata()) for line in loss.lines] == [4, 3] and len(skips.lines) == 1
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train", "valid"]
    records[1]["measured"], records[3] = {"trace": 2.0}, {**records[3], "stopped": {"epoch": 1}}
    *_, trace = draw_curves(records).axes
    assert trace.get_title() == "trace" and [len(line.get_xdata()) for line in trace.lines] == [1, 2]  # and the answer
    np.testing.assert_array_equal(trace.lines[1].get_xdata(), 1)
    full = {"train_loss": 1, "valid_accuracy": 0.5, "alpha_entropy": 2, "skips": 0}
    assert len(draw_curves([full]).axes) == 4
    with pytest.raises(ValueError, match="train_loss"):
        draw_curves([{"epoch": 1}])


def test_agreement_of_seeds(draw, tmp_path):
    """One matrix for each cell type, whose mean over pairs is the metric; runs are read at the epoch of the answer."""
    tables = {f"seed {seed}": {cell: draw((3, 4, 5)) for cell in ("normal", "reduce")} for seed in range(3)}
    for name, history in tables.items():
        (tmp_path / name).mkdir()
        records = [{"epoch": 1}, {"epoch": 2}, {"epoch": 3, "stopped": {"epoch": 2}}]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        np.savez(tmp_path / name / "scores.npz", **history)
    answers = {name: {cell: table[1] for cell, table in history.items()} for name, history in tables.items()}
    figure = draw_agreement(answers)
    assert len(figure.axes) == 3  # two cells and the scale
    for axes, cell in zip(figure.axes, ("normal", "reduce"), strict=False):
        expected = correlation([{cell: found[cell]} for found in answers.values()])
        assert axes.get_title() == f"{cell}: mean {expected:.2f}"
        flat = [np.ravel(found[cell]) for found in answers.values()]
        np.testing.assert_allclose(axes.images[0].get_array(), np.corrcoef(flat))
    folder.draw_agreement([tmp_path / name for name in tables], tmp_path / "from_folders.png")
    save(figure, tmp_path / "from_scores.png")
    assert (tmp_path / "from_folders.png").read_bytes() == (tmp_path / "from_scores.png").read_bytes()
    with pytest.raises(ValueError, match="1 given"):
        draw_agreement({"one": answers["seed 0"]})
    with pytest.raises(FileNotFoundError):
        folder.draw_agreement([tmp_path / "nothing", tmp_path / "seed 0"], tmp_path / "a.png")


@pytest.mark.parametrize("suffix, head", ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".SVG", b"<?xml")))
def test_files_are_whole_and_the_same_every_time(tmp_path, suffix, head):
    for name in ("a", "b"):
        save(draw_cells(CELLS["benchmark"]), tmp_path / (name + suffix))
    first, second = ((tmp_path / (name + suffix)).read_bytes() for name in ("a", "b"))
    assert first.startswith(head) and first == second
    assert len(list(tmp_path.iterdir())) == 2  # no drafts left


def test_other_suffixes_are_refused(tmp_path):
    for name in ("a.pdf", "a", "a.png.gz"):
        with pytest.raises(ValueError, match=r"png or \.svg"):
            save(draw_cells(CELLS["one edge"]), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    figure, path = draw_cells(CELLS["one edge"]), tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(figure, path)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
