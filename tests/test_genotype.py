"""Genotypes: what is a genotype, what is not, and the three notations."""

import dataclasses
import json

import numpy as np
import pytest
from published import BENCHMARK, DARTS_V2, GDAS_F1, NASNET, PUBLISHED, SNAS_MILD_EDGE_ALL

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


@pytest.mark.parametrize(
    "concat, states",
    [("range(2, 4)", (2, 3)), ("[2, 3]", (2, 3)), ("(2, 3)", (2, 3)), ("[3]", (3,)), ("[3, 2]", (3, 2))],
)
def test_concat_in_every_spelling(concat, states):
    rows = "[('skip_connect', 0), ('skip_connect', 1), ('none', 0), ('none', 1)]"
    found = from_darts(f"Genotype(normal={rows}, normal_concat={concat}, reduce=None, reduce_concat=[2])")
    assert found.concat("normal") == states
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
    rows = [{"cells": (("c", (row,)),)} for row in (("a", 0, 1), Choice("a", 0.0, 1.0), Choice("a", False, True))]
    for wrong in (*rows, {"cells": {"c": []}}, {"outputs": ("c",)}, {"outputs": (("c", (True,)),)}, twice):
        with pytest.raises(ValueError):
            Genotype(**right | wrong)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Genotype(**right).space = "t"


RIGHT = '{"space": "s", "cells": {"c": [["a", 0, 1]]}, "outputs": {"c": [1]}}'


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
        RIGHT[:-1] + ', "more": 1}',
        RIGHT.replace('"s"', "3"),
        RIGHT.replace("0, 1", "0, NaN"),
        RIGHT.replace("0, 1", "0, 1e999"),
        RIGHT.replace("0, 1", "0, 1.0"),
        RIGHT.replace("0, 1", "0, true"),
        RIGHT.replace('[["a", 0, 1]]', '[["a", 0, 1]], "c": [["a", 0, 1]]'),
        RIGHT.replace('[["a", 0, 1]]', '{"a": 0}'),
        RIGHT.replace('"a"', '["a"]'),
        '{"space": "s", "cells": ["c"], "outputs": ["c"]}',
        '{"space": "s", "cells": null, "outputs": null}',
        '{"a": ' * 100000,
        "[" * 100000 + "]" * 100000,
        RIGHT.replace('"s"', "[" * 900 + "]" * 900),
        RIGHT.replace("0, 1", "0, " + "9" * 5000),
    ],
)
def test_no_json_of_a_genotype(text):
    with pytest.raises(ValueError):
        from_json(text)


TWO = "[('a', 0), ('a', 1)]"


def _papers(reduce=TWO, concat="[2]"):
    return f"Genotype(normal={TWO}, normal_concat=[2], reduce={reduce}, reduce_concat={concat})"


ONE_CELL = _papers("None")


def test_what_the_wrong_texts_deviate_from():
    assert from_json(RIGHT) == genotype("s", {"c": [("a", 0, 1)]}, {"c": [1]})
    assert from_darts(ONE_CELL).names == ("normal",) and from_darts(_papers()).names == ("normal", "reduce")


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
        ONE_CELL.replace("Genotype", "Other"),
        "a.b = " + ONE_CELL,
        "a = b = " + ONE_CELL,
        "import os; " + ONE_CELL,
        ONE_CELL.replace("reduce_concat=[2]", "reduce=None"),
        ONE_CELL.replace("[2])", "[2], more=1)"),
        ONE_CELL.replace("reduce=None, reduce_concat=[2]", "**kw"),
        _papers("print('x')"),
        _papers("[('a', 0), (f'{x}', 1)]"),
        _papers("[('a', 0), (b'a', 1)]"),
        _papers("[('a', 0), ('a', True)]"),
        _papers("[('a', 0), ('a', -1)]"),
        _papers("[('a', 0), ('a', 2)]"),
        _papers("[('a', 0), ('a', 1, 2)]"),
        _papers("[('a', 0), 'ab']"),
        _papers("[('a', 0)]"),
        _papers("[]"),
        _papers("range(0, 10)"),
        _papers("{[]}"),
        _papers(concat="[]"),
        _papers(concat="None"),
        _papers(concat="range(2, 'a')"),
        _papers(concat="range(2, 10**9)"),
        _papers(concat="range(2, 1000000000000)"),
        _papers(concat="range(-1000000000000, 3)"),
        _papers(concat="[9]"),
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
    barred = genotype("s", {"cell": [("a|b", 0, 1)]}, {"cell": [1]})
    for write, wrong in (
        (to_darts, benchmark),
        (to_darts, odd),
        (to_nas_bench_201, darts),
        (to_nas_bench_201, middle),
        (to_nas_bench_201, barred),
    ):
        with pytest.raises(ValueError):
            write(wrong)


def test_a_cell_that_left_edges_off_has_no_benchmark_name():
    """As rows decode that keep two edges a node: says what is missing and what to do."""
    found = genotype("nas_bench_201", {"cell": [("a", 0, 1), ("a", 0, 2), ("a", 1, 3), ("a", 2, 3)]}, {"cell": [3]})
    with pytest.raises(ValueError, match=r"each of 6 edges, this genotype has 4.*decoding.argmax_edges\(\)"):
        to_nas_bench_201(found)
