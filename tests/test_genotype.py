"""Genotypes: what is a genotype, what is not, and the three notations."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas.spaces.genotype import (
    Choice,
    Genotype,
    from_darts,
    from_json,
    from_nas_bench_201,
    genotype,
    read,
    to_darts,
    to_json,
    to_nas_bench_201,
)

# Published cells in their authors' notation: quark0/darts `cnn/genotypes.py`; SNAS-Series; D-X-Y/GDAS.
DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('avg_pool_3x3', 0)], reduce_concat=range(2, 6))"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
NASNET = (
    "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0), "
    "('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), "
    "('sep_conv_3x3', 1), ('skip_connect', 1)], normal_concat=range(2, 7), "
    "reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0), "
    "('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2), "
    "('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=range(4, 7))"
)
AMOEBANET = (
    "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), "
    "('skip_connect', 0), ('avg_pool_3x3', 1)], normal_concat=range(4, 7), "
    "reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2), "
    "('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), "
    "('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])"
)
SNAS_MILD_EDGE_ALL = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 1), "
    "('none', 2), ('skip_connect', 0), ('skip_connect', 1), ('none', 3), ('none', 2), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('none', 4), ('none', 3), ('none', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('none', 0), ('max_pool_3x3', 1), "
    "('skip_connect', 2), ('none', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('none', 3), "
    "('max_pool_3x3', 0), ('dil_conv_5x5', 2), ('none', 1), ('none', 3), ('none', 4)], "
    "reduce_concat=range(2, 6))"
)
GDAS_F1 = (
    "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('sep_conv_3x3', 2), "
    "('skip_connect', 0), ('sep_conv_3x3', 2), ('skip_connect', 0), ('sep_conv_3x3', 2)], "
    "normal_concat=range(2, 6), reduce=None, reduce_concat=range(2, 6))"
)
PUBLISHED = (DARTS_V1, DARTS_V2, NASNET, AMOEBANET, SNAS_MILD_EDGE_ALL, GDAS_F1)
BENCHMARK = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_3x3~2|"


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_cells_survive_both_notations(text):
    found = from_darts(text)
    assert to_darts(found) == text
    assert from_json(to_json(found)) == found
    assert read(f"\n NAME = {text}\n") == read(to_json(found)) == found
    assert len({found, from_darts(text)}) == 1  # hashable, equal by value


def test_states_of_the_papers_rows():
    v2 = from_darts(DARTS_V2)
    assert v2.space == "darts" and v2.names == ("normal", "reduce")
    assert v2.edges("normal")[0] == Choice("sep_conv_3x3", 0, 2)
    assert [edge.target for edge in v2.edges("normal")] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert v2.concat("normal") == (2, 3, 4, 5)
    assert v2.count("skip_connect", "normal") == 2 and v2.count("skip_connect") == 5
    assert from_darts(GDAS_F1).names == ("normal",)


def test_edge_all_has_one_row_for_every_earlier_state():
    cell = from_darts(SNAS_MILD_EDGE_ALL).edges("normal")
    assert [edge.target for edge in cell] == [2] * 2 + [3] * 3 + [4] * 4 + [5] * 5
    assert {(edge.source, edge.target) for edge in cell} == {(s, t) for t in range(2, 6) for s in range(t)}


@pytest.mark.parametrize("concat", ("range(2, 4)", "[2, 3]", "(2, 3)", "[3]", "[3, 2]"))
def test_concat_in_every_spelling(concat):
    rows = "[('skip_connect', 0), ('skip_connect', 1), ('none', 0), ('none', 1)]"
    found = from_darts(f"Genotype(normal={rows}, normal_concat={concat}, reduce=None, reduce_concat=[2])")
    assert sorted(found.concat("normal")) in ([2, 3], [3])
    assert from_darts(to_darts(found)) == found


def test_benchmark_names():
    found = from_nas_bench_201(BENCHMARK)
    assert found.space == "nas_bench_201" and found.names == ("cell",) and found.concat("cell") == (3,)
    assert found.edges("cell")[2] == Choice("skip_connect", 1, 2)
    assert to_nas_bench_201(found) == BENCHMARK
    assert read(BENCHMARK + "\n") == found == from_json(to_json(found))


def test_json_is_the_documented_layout():
    cell = genotype("tiny", {"cell": [("skip_connect", 0, 1)]}, {"cell": range(1, 2)})
    assert json.loads(to_json(cell)) == {
        "space": "tiny",
        "cells": {"cell": [["skip_connect", 0, 1]]},
        "outputs": {"cell": [1]},
    }


def test_indices_of_numpy_become_ints():
    cell = genotype("tiny", {"cell": [("none", np.int64(0), np.int32(1))]}, {"cell": (np.int64(1),)})
    assert type(cell.edges("cell")[0].target) is int and type(cell.concat("cell")[0]) is int
    assert from_json(to_json(cell)) == cell


def test_two_choices_may_share_an_edge():
    assert from_darts(NASNET).edges("normal")[2:4] == (
        Choice("sep_conv_5x5", 0, 3),
        Choice("sep_conv_3x3", 0, 3),
    )


def test_an_unknown_cell_names_those_there_are():
    for ask in (lambda g: g.edges("cell"), lambda g: g.concat("cell"), lambda g: g.count("none", "cell")):
        with pytest.raises(ValueError, match="normal, reduce"):
            ask(from_darts(DARTS_V2))


@pytest.mark.parametrize(
    "space, cells, outputs",
    [
        ("", {"c": [("a", 0, 1)]}, {"c": [1]}),
        (None, {"c": [("a", 0, 1)]}, {"c": [1]}),
        ("s", {}, {}),
        ("s", [], []),
        ("s", {"c": [("a", 0, 1)]}, {"d": [1]}),
        ("s", {"": [("a", 0, 1)]}, {"": [1]}),
        ("s", {1: [("a", 0, 1)]}, {1: [1]}),
        ("s", {"c": []}, {"c": [1]}),
        ("s", {"c": 3}, {"c": [1]}),
        ("s", {"c": "abc"}, {"c": [1]}),
        ("s", {"c": ["abc"]}, {"c": [1]}),
        ("s", {"c": [("a", 0, 1)]}, {"c": []}),
        ("s", {"c": [("a", 0, 1)]}, {"c": [2]}),
        ("s", {"c": [("a", 0, 1)]}, {"c": [1, 1]}),
        ("s", {"c": [("a", 0, 1)]}, {"c": [-1]}),
        ("s", {"c": [("a", 0, 1)]}, {"c": [True]}),
        ("s", {"c": [("", 0, 1)]}, {"c": [1]}),
        ("s", {"c": [(3, 0, 1)]}, {"c": [1]}),
        ("s", {"c": [("a", 1, 1)]}, {"c": [1]}),
        ("s", {"c": [("a", 2, 1)]}, {"c": [1]}),
        ("s", {"c": [("a", -1, 1)]}, {"c": [1]}),
        ("s", {"c": [("a", False, True)]}, {"c": [1]}),
        ("s", {"c": [("a", 0.0, 1.0)]}, {"c": [1]}),
        ("s", {"c": [("a", 0)]}, {"c": [1]}),
    ],
)
def test_no_genotype(space, cells, outputs):
    with pytest.raises(ValueError):
        genotype(space, cells, outputs)


def test_direct_construction_is_checked_too():
    right = {"space": "s", "cells": (("c", (Choice("a", 0, 1),)),), "outputs": (("c", (1,)),)}
    assert Genotype(**right) == genotype("s", {"c": [("a", 0, 1)]}, {"c": [1]})
    twice = {"cells": right["cells"] * 2, "outputs": right["outputs"] * 2}
    for wrong in ({"cells": {"c": []}}, {"cells": (("c", (("a", 0, 1),)),)}, {"outputs": ("c",)}, twice):
        with pytest.raises(ValueError):
            Genotype(**right | wrong)
    with pytest.raises(ValueError):
        Genotype(**right | {"outputs": (("c", (True,)),)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        Genotype(**right).space = "t"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        "NaN",
        '{"space": "s"}',
        '{"space": "s", "cells": {"c": [["a", 0, 1]]}, "outputs": {"c": [1]}, "more": 1}',
        '{"space": 3, "cells": {"c": [["a", 0, 1]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, NaN]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, 1e999]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, 1.0]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, true]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, 1]], "c": [["a", 0, 1]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": {"a": 0}}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [[["a"], 0, 1]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": ["c"], "outputs": ["c"]}',
        '{"space": "s", "cells": null, "outputs": null}',
        '{"a": ' * 100000,
        "[" * 100000 + "]" * 100000,
        '{"space": ' + "[" * 900 + "]" * 900 + ', "cells": {"c": [["a", 0, 1]]}, "outputs": {"c": [1]}}',
        '{"space": "s", "cells": {"c": [["a", 0, ' + "9" * 5000 + ']]}, "outputs": {"c": [1]}}',
    ],
)
def test_no_json_of_a_genotype(text):
    with pytest.raises(ValueError):
        from_json(text)


TWO = "normal=[('a', 0), ('a', 1)], normal_concat=[2]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype",
        "Genotype()",
        "Genotype(1, 2, 3, 4)",
        "None",
        "\0",
        "\ud800",
        "Genotype(" * 300,
        "-" * 100000 + "1",
        "x" + ".x" * 100000,
        f"Other({TWO}, reduce=None, reduce_concat=[2])",
        f"a.b = Genotype({TWO}, reduce=None, reduce_concat=[2])",
        f"a = b = Genotype({TWO}, reduce=None, reduce_concat=[2])",
        f"import os; Genotype({TWO}, reduce=None, reduce_concat=[2])",
        f"Genotype({TWO}, reduce=None)",
        f"Genotype({TWO}, reduce=None, reduce=None)",
        f"Genotype({TWO}, reduce=None, reduce_concat=[2], more=1)",
        f"Genotype({TWO}, **kw)",
        f"Genotype({TWO}, reduce=print('x'), reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), (f'{{x}}', 1)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), (b'a', 1)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', True)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', -1)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 2)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1, 2)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), 'ab'], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0)], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[], reduce_concat=[2])",
        f"Genotype({TWO}, reduce=range(0, 10), reduce_concat=[2])",
        f"Genotype({TWO}, reduce={{[]}}, reduce_concat=[2])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=[])",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=None)",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=range(2))",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=range(2, 'a'))",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=range(2, 10**9))",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=range(2, 1000000000000))",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=range(-1000000000000, 3))",
        f"Genotype({TWO}, reduce=[('a', 0), ('a', 1)], reduce_concat=[9])",
    ],
)
def test_not_the_papers_notation(text):
    with pytest.raises(ValueError):
        from_darts(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|",
        "||",
        "a~0",
        "|a~1|",
        "|a~0",
        "|a|",
        "|~0|",
        "|a~0|+",
        "|a~0|+|a~0|",
        "|a~0|+|a~1|a~0|",
        "|a~0|+|a~0|a~0|",
        "|a~0|+|a~0|a~1|a~2|",
        "|a~00|",
        "|a~0||",
        "|a b~0|",
        "|a~0|a~1|",
        "|a~٠|",
    ],
)
def test_not_a_benchmark_name(text):
    with pytest.raises(ValueError):
        from_nas_bench_201(text)


def test_what_a_notation_cannot_hold():
    benchmark, darts = from_nas_bench_201(BENCHMARK), from_darts(DARTS_V2)
    odd = genotype("s", {"normal": [("a", 0, 2), ("a", 1, 3)]}, {"normal": [3]})
    middle = dataclasses.replace(benchmark, outputs=(("cell", (2,)),))
    for write, wrong in (
        (to_darts, benchmark),
        (to_darts, odd),
        (to_nas_bench_201, darts),
        (to_nas_bench_201, middle),
    ):
        with pytest.raises(ValueError):
            write(wrong)
    with pytest.raises(ValueError):
        to_nas_bench_201(genotype("s", {"cell": [("a|b", 0, 1)]}, {"cell": [1]}))


names = st.text(min_size=1, max_size=12)
benchmark_names = st.text("abcxyz_0123", min_size=1, max_size=12)


@st.composite
def any_cells(draw):
    cells, outputs = {}, {}
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        ends = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), min_size=1, max_size=12))
        cells[name] = [(draw(names), source, source + step) for source, step in ends]
        last = max(target for _, _, target in cells[name])
        outputs[name] = draw(st.lists(st.integers(0, last), min_size=1, max_size=4, unique=True))
    return genotype(draw(names), cells, outputs)


@st.composite
def papers_cells(draw):
    cells, outputs, nodes = {}, {}, draw(st.integers(1, 5))
    for name in ("normal", "reduce")[: draw(st.integers(1, 2))]:
        every = draw(st.booleans())
        ends = [(s, t) for t in range(2, nodes + 2) for s in range(t if every else 2)]
        cells[name] = [(draw(names), s if every else draw(st.integers(0, t - 1)), t) for s, t in ends]
        outputs[name] = draw(st.permutations(range(2, nodes + 2)))
    return genotype("darts", cells, outputs)


@given(any_cells())
def test_any_genotype_survives_json(found):
    assert read(to_json(found)) == from_json(to_json(found)) == found
    assert hash(from_json(to_json(found))) == hash(found)


@given(papers_cells())
def test_papers_cells_survive_their_notation(found):
    assert read(to_darts(found)) == from_darts(to_darts(found)) == found
    assert from_json(to_json(found)) == found


@given(st.integers(1, 5).flatmap(lambda n: st.lists(benchmark_names, min_size=n * (n + 1) // 2, max_size=15)))
def test_benchmark_cells_survive_their_name(ops):
    nodes = max(n for n in range(1, 6) if n * (n + 1) // 2 <= len(ops))
    ends = [(s, t) for t in range(1, nodes + 1) for s in range(t)]
    rows = [(op, s, t) for op, (s, t) in zip(ops, ends, strict=False)]
    found = genotype("nas_bench_201", {"cell": rows}, {"cell": [nodes]})
    assert read(to_nas_bench_201(found)) == from_nas_bench_201(to_nas_bench_201(found)) == found


@given(any_cells())
def test_a_notation_refuses_or_returns_the_same(found):
    for write, back in ((to_darts, from_darts), (to_nas_bench_201, from_nas_bench_201)):
        try:
            text = write(found)
        except ValueError:
            continue
        assert back(text).cells == found.cells and back(text).outputs == found.outputs


pieces = st.sampled_from(
    [
        "Genotype(",
        ")",
        "normal=",
        "reduce=",
        "normal_concat=",
        "reduce_concat=",
        "range(2, 6)",
        "[",
        "]",
        ", ",
    ]
    + [
        "('a', 0)",
        "('a', 1)",
        "{",
        "}",
        '"cells": ',
        '"space": "s"',
        '"outputs": ',
        "|a~0|",
        "+",
        "|",
        "~1",
        "NaN",
    ]
    + ["1e400", "9" * 30, "None", "lambda: 0", "*", "**x", "\0", "\\d", "x = "]
)
texts = st.one_of(st.text(), st.lists(pieces, max_size=20).map("".join))


@settings(max_examples=300)
@given(texts)
def test_any_text_is_a_genotype_or_a_value_error(text):
    for parse in (from_json, from_darts, from_nas_bench_201, read):
        try:
            assert isinstance(parse(text), Genotype)
        except ValueError as error:
            assert str(error)


@given(st.sampled_from(PUBLISHED), st.data())
def test_a_damaged_genotype_is_a_genotype_or_a_value_error(text, data):
    for start, parse in (
        (text, from_darts),
        (to_json(from_darts(text)), from_json),
        (BENCHMARK, from_nas_bench_201),
    ):
        at = data.draw(st.integers(0, len(start) - 1))
        damaged = start[:at] + data.draw(st.text(max_size=3)) + start[at + data.draw(st.integers(0, 3)) :]
        for reader in (parse, read):
            try:
                assert isinstance(reader(damaged), Genotype)
            except ValueError as error:
                assert str(error)
