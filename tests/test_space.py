"""Spaces as plain data: what is a space, what is not, how large it is, and how its skeleton is grouped."""

import dataclasses
from math import comb, prod

import numpy as np
import pytest

from jaxnas.spaces.darts import darts, darts_network, s1, s2, s3, s4
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.plan import Cells, Place, Size, plan
from jaxnas.spaces.space import Layer, dag

SPACES = (darts, darts_network, s1, s2, s3, s4, nas_bench_201, nas_bench_201_network)
EVERYWHERE = np.ones((14, 8), bool)
NOTHING_ON_3 = np.arange(14)[:, None] != np.full((1, 8), 3)


def test_dag_joins_every_state_to_every_later_node():
    assert dag(inputs=2, nodes=2) == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert dag(inputs=1, nodes=1) == ((0, 1),)
    assert len(dag(inputs=2, nodes=4)) == 2 + 3 + 4 + 5


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"skeleton": (Layer("normal", 4), Layer("other", 4))}, "skeleton names the cell 'other'.*normal, reduce"),
        ({"skeleton": (Layer("normal", 0),)}, "channels must be at least 1"),
        ({"skeleton": (Layer("normal", 4, 3),)}, "stride 1 or 2"),
        ({"skeleton": (Layer("normal", 4, 0),)}, "stride 1 or 2"),
        ({"skeleton": ()}, "at least one layer, one operation and one cell type"),
        ({"ops": ()}, "at least one layer, one operation and one cell type"),
        ({"cells": (), "skeleton": (Layer("b", 4),), "blocks": (("b", print),)}, "at least one .* cell type"),
        ({"ops": darts().ops + darts().ops[3:4]}, "operation names must differ, got none, .*, skip_connect.$"),
        ({"inputs": 3}, "inputs=3: a cell starts from 1 state"),
        ({"inputs": 0}, "inputs=0: a cell starts from 1 state"),
        ({"classes": 0}, "classes=0, image=.*: both must be positive"),
        ({"image": (32, 32, 0)}, r"classes=10, image=\(32, 32, 0\): both must be positive"),
        ({"edges": ((0, 2), (2, 2)), "outputs": (2,)}, r"edge \(2, 2\): an edge runs from an earlier state"),
        ({"edges": ((0, 2), (3, 2)), "outputs": (2,)}, r"edge \(3, 2\): an edge runs from an earlier state"),
        ({"edges": ((-1, 2),), "outputs": (2,)}, r"edge \(-1, 2\): an edge runs from an earlier state"),
        ({"edges": ((0, 1), (0, 2)), "outputs": (2,)}, r"edge \(0, 1\): an edge runs from an earlier state"),
        ({"edges": ((0, 2), (3, 4)), "outputs": (4,)}, r"edge \(3, 4\) starts at state 3, which no edge reaches"),
        ({"outputs": (2, 6)}, r"outputs=\(2, 6\) must be nodes of the cell: \(2, 3, 4, 5\)"),
        ({"outputs": (1, 2)}, r"outputs=\(1, 2\) must be nodes"),
        ({"outputs": ()}, r"outputs=\(\) must be nodes"),
        ({"outputs": (3, 3)}, r"outputs must differ from each other, got \(3, 3\)"),
        ({"edges": ((0, 2), (0, 2), (1, 3), (0, 4), (0, 5))}, r"edges must differ from each other"),
        ({"edges": ((0, 2), (1, 4), (0, 5)), "outputs": (5,)}, r"without gaps from 2 on"),
        ({"blocks": (("reduce", None),)}, r"cells and blocks must differ"),
        ({"image": (30, 32, 3)}, "image height 30 cannot be halved 2 times: .* multiples of 4"),
        ({"image": (32, 6, 3)}, "image width 6 cannot be halved 2 times: .* multiples of 4"),
        ({"alive": (("normal", ((True,) * 8,) * 14),)}, r"given for \['normal'\], cells are \['normal', 'reduce'\]"),
    ],
)
def test_contradictions(changes, text):
    with pytest.raises(ValueError, match=text):
        darts().replace(**changes)


@pytest.mark.parametrize(
    "masks, text",
    [
        ({"normal": EVERYWHERE, "other": EVERYWHERE}, r"\['normal', 'other'\], cells are \['normal', 'reduce'\]"),
        ({"normal": EVERYWHERE, "reduce": EVERYWHERE[:, :7]}, r"'reduce' has shape \(14, 7\), .* = \(14, 8\)"),
        ({"normal": EVERYWHERE[:13], "reduce": EVERYWHERE}, r"'normal' has shape \(13, 8\), .* = \(14, 8\)"),
        ({"normal": EVERYWHERE, "reduce": NOTHING_ON_3}, "edge 3 of 'reduce' has no operation left alive"),
    ],
)
def test_impossible_masks(masks, text):
    with pytest.raises(ValueError, match=text):
        darts().with_alive(masks)


def test_masks_are_kept_as_given():
    space, rng = darts(4, 5), np.random.default_rng(0)
    masks = {cell: rng.random((14, 8)) < 0.5 for cell in ("reduce", "normal")}
    for mask in masks.values():
        mask[np.arange(14), rng.integers(8, size=14)] = True
    masked = space.with_alive(masks)
    for cell in space.cells:
        np.testing.assert_array_equal(space.mask(cell), np.ones((14, 8), bool))
        np.testing.assert_array_equal(masked.mask(cell), masks[cell])
    assert masked != space and hash(masked) == hash(space.with_alive(masks))
    assert masked.replace(alive=()) == space
    assert space.with_alive({cell: masks[cell].astype(int).tolist() for cell in masks}) == masked


def test_rows_of_alpha():
    space = darts(4, 5)
    assert space.nodes == (2, 3, 4, 5)
    assert [space.incoming(node) for node in space.nodes] == [(0, 1), (2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12, 13)]
    assert space.incoming(0) == ()
    assert nas_bench_201().incoming(3) == (3, 4, 5)
    upside_down = space.replace(edges=space.edges[::-1])
    assert upside_down.incoming(2) == (12, 13) and upside_down.nodes == space.nodes


@pytest.mark.parametrize("make", SPACES)
def test_spaces_are_values(make):
    assert make(4, 5) == make(4, 5) and hash(make(4, 5)) == hash(make(4, 5))
    assert make(4, 5) != make(4, 6) and make(4, 5) != make(8, 5) and make(4, 5) != make(4, 5, 11)
    assert make(4, 5).replace(classes=11) == make(4, 5, 11)
    assert make(4, 5, image=(8, 12, 1)).image == (8, 12, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(4, 5).classes = 11


def test_every_space_is_another_one():
    made = {make(4, 5) for make in SPACES}
    assert len(made) == len(SPACES)
    assert {space.name for space in made} == {"darts", "s1", "s2", "s3", "s4", "nas_bench_201"}


# reductions at layers // 3 and 2 * layers // 3, each doubling the width of itself and of all behind it
@pytest.mark.parametrize(
    "layers, cells, widths",
    [
        (3, "nrr", (4, 8, 16)),
        (5, "nrnrn", (4, 8, 8, 16, 16)),
        (8, "nnrnnrnn", (4, 4, 8, 8, 8, 16, 16, 16)),
        (20, "n" * 6 + "r" + "n" * 6 + "r" + "n" * 6, (4,) * 6 + (8,) * 7 + (16,) * 7),
    ],
)
def test_darts_skeleton(layers, cells, widths):
    space = darts(4, layers)
    assert "".join(layer.cell[0] for layer in space.skeleton) == cells
    assert tuple(layer.channels for layer in space.skeleton) == widths
    assert [layer.stride for layer in space.skeleton] == [1 + (cell == "r") for cell in cells]
    assert space.stem_channels == 12


@pytest.mark.parametrize("make", (darts, darts_network, s1, s2, s3, s4))
@pytest.mark.parametrize("channels, layers, text", [(5, 8, "channels=5"), (0, 8, "channels=0"), (4, 2, "layers=2")])
def test_impossible_darts(make, channels, layers, text):
    with pytest.raises(ValueError, match=text):
        make(channels, layers)


def test_impossible_nas_bench_201():
    with pytest.raises(ValueError, match="cells_per_stage=0: give at least 1"):
        nas_bench_201(4, 0)
    with pytest.raises(ValueError, match="channels must be at least 1"):
        nas_bench_201(0, 1)
    with pytest.raises(ValueError, match="image height 6 cannot be halved 2 times"):
        nas_bench_201(4, 1, image=(6, 8, 3))


def test_size_of_the_darts_space():
    """Two of the incoming edges of every node, on each any operation but `none`, for two cell types."""
    space = darts()
    pairs = prod(comb(len(space.incoming(node)), 2) for node in space.nodes)
    cell = pairs * (len(space.ops) - 1) ** (2 * len(space.nodes))
    assert cell == prod(comb(i + 2, 2) for i in range(4)) * 7**8
    assert f"{cell ** len(space.cells):.4e}" == "1.0767e+18"


def test_size_of_nas_bench_201():
    space = nas_bench_201(16, 5)
    assert len(space.ops) ** len(space.edges) == 15625 and space.cells == ("cell",)
    assert [(layer.cell, layer.channels) for layer in space.skeleton] == (
        [("cell", 16)] * 5 + [("residual", 32)] + [("cell", 32)] * 5 + [("residual", 64)] + [("cell", 64)] * 5
    )


def living(space, cell):
    """Names of the living operations of every edge."""
    return [{name for name, on in zip(space.op_names, row, strict=True) if on} for row in space.mask(cell)]


def test_living_operations_of_s1_to_s4():
    assert [len(edge) for cell in ("normal", "reduce") for edge in living(s1(), cell)] == [2] * 28
    assert living(s1(), "normal")[0] == {"skip_connect", "dil_conv_3x3"}
    assert living(s1(), "normal")[5] == {"max_pool_3x3", "skip_connect"}
    assert living(s1(), "normal")[13] == {"dil_conv_3x3", "dil_conv_5x5"}
    assert living(s1(), "reduce")[0] == {"max_pool_3x3", "avg_pool_3x3"}
    assert living(s1(), "reduce")[6] == {"max_pool_3x3", "sep_conv_3x3"}
    assert living(s1(), "reduce")[13] == {"skip_connect", "dil_conv_5x5"}
    assert not any("none" in edge for cell in s1().cells for edge in living(s1(), cell))
    for space, ops in (
        (s2(), {"skip_connect", "sep_conv_3x3"}),
        (s3(), {"none", "skip_connect", "sep_conv_3x3"}),
        (s4(), {"noise", "sep_conv_3x3"}),
    ):
        assert living(space, "normal") == living(space, "reduce") == [ops] * 14


# ------------------------------------------------------------------------------------------------ the plan

ROWS = [  # equal cells in a row are one part; a reduction and a block stand alone
    (darts(2, 3), [(0,), (1,), (2,)]),
    (darts(2, 5), [(0,), (1,), (2,), (3,), (4,)]),
    (darts(2, 8), [(0, 1), (2,), (3, 4), (5,), (6, 7)]),
    (darts(2, 20), [tuple(range(6)), (6,), tuple(range(7, 13)), (13,), tuple(range(14, 20))]),
    (nas_bench_201(2, 1), [(0,), (1,), (2,), (3,), (4,)]),
    (nas_bench_201(2, 3), [(0, 1, 2), (3,), (4, 5, 6), (7,), (8, 9, 10)]),
    (darts(2, 3).replace(skeleton=(Layer("reduce", 2, 2), Layer("reduce", 2, 2))), [(0,), (1,)]),
    (darts(2, 3).replace(skeleton=(Layer("normal", 2), Layer("normal", 4), Layer("normal", 4))), [(0,), (1, 2)]),
    (darts(2, 3).replace(skeleton=(Layer("normal", 2), Layer("reduce", 2), Layer("reduce", 2))), [(0,), (1, 2)]),
]


@pytest.mark.parametrize("space, rows", ROWS)
def test_equal_cells_in_a_row_are_one_part(space, rows):
    parts = plan(space)
    assert [part.layers for part in parts] == rows
    for part in parts:
        layers = {space.skeleton[i] for i in part.layers}
        assert len(layers) == 1
        layer = layers.pop()
        assert isinstance(part, Cells) == (layer.cell in space.cells)
        name = part.cell if isinstance(part, Cells) else part.block
        assert (name, part.stride) == (layer.cell, layer.stride)


@pytest.mark.parametrize("space, rows", ROWS)
def test_every_part_reads_what_stands_before_it(space, rows):
    """Sizes followed layer by layer: width and shrinkage of both inputs and of the output."""
    older = newer = Size(space.stem_channels, 1)
    for part in plan(space):
        for i, layer in enumerate(space.skeleton[k] for k in part.layers):
            nodes = len(space.outputs) if layer.cell in space.cells else 1
            result = Size(layer.channels * nodes, newer.shrink * layer.stride)
            assert part.result == result
            if isinstance(part, Place):
                assert part.source == newer
            else:
                assert part.currents[i] == newer and part.channels == layer.channels
                assert i or (part.previous == older and part.reduction == newer.shrink // older.shrink)
                assert part.common.channels >= newer.channels
            older, newer = newer, result
    assert newer.shape(space.image) == (32 // newer.shrink, 32 // newer.shrink, newer.channels)


@pytest.mark.parametrize(
    "space",
    [
        darts(2, 8),
        nas_bench_201(2, 1),
        s1(2, 8),
        darts(2, 8).replace(edges=dag(2, 4)[::-1]),
        darts(2, 8).replace(edges=tuple(dag(2, 4)[e] for e in np.random.default_rng(0).permutation(14))),
    ],
)
def test_edges_are_visited_once_and_after_all_that_they_read(space):
    for part in plan(space):
        if isinstance(part, Place):
            continue
        visited = [edge for run in part.runs for edge in run.edges]
        assert sorted(visited) == list(range(len(space.edges)))
        for place, edge in enumerate(visited):
            source = space.edges[edge][0]
            assert not set(space.incoming(source)) & set(visited[place:])
        for run in part.runs:
            np.testing.assert_array_equal(run.alive, space.mask(part.cell)[list(run.edges)])
            assert run.ops == tuple(o for o in range(len(space.ops)) if run.alive[:, o].any())


def test_a_strided_cell_visits_its_strided_edges_first():
    parts = plan(darts(2, 8))
    for part in parts:
        ends = [[darts().edges[e] for e in run.edges] for run in part.runs]
        if part.stride == 1:
            assert [run.stride for run in part.runs] == [1] and not part.runs[0].from_inputs
            continue
        outer, inner = part.runs
        assert (outer.stride, outer.from_inputs, inner.stride, inner.from_inputs) == (2, True, 1, False)
        assert len(ends[0]) == 8 and all(source < 2 for source, _ in ends[0])
        assert len(ends[1]) == 6 and all(source >= 2 for source, _ in ends[1])
    lone = darts(2, 8).replace(edges=((0, 2), (1, 2)), outputs=(2,))
    assert [len(part.runs) for part in plan(lone)] == [1] * 5


def test_dead_columns_are_left_out_of_a_run():
    mask = np.zeros((14, 8), bool)
    mask[:, 3] = True
    mask[[1, 4], 5] = True  # (1, 2) reads an input, (2, 3) does not
    space = darts(2, 3).with_alive({"normal": mask, "reduce": mask})
    normal, reduce, _ = plan(space)
    assert [run.ops for run in normal.runs] == [(3, 5)]
    assert [run.ops for run in reduce.runs] == [(3, 5), (3, 5)]
    assert [int(run.alive.sum()) for run in reduce.runs] == [9, 7]


def test_the_stem_is_padded_to_the_width_of_a_cell():
    first = plan(darts(2, 8))[0]
    assert [size.channels for size in first.currents] == [6, 8] and first.common.channels == 8
    assert plan(darts(2, 5))[0].common.channels == 6
