"""Genotypes drawn by hypothesis: every notation gives back what it was given, and no text breaks a reader."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from published import BENCHMARK, PUBLISHED

from jaxnas.spaces.genotype import (
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

names = st.text(min_size=1, max_size=12)


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


@st.composite
def benchmark_cells(draw):
    nodes, ops = draw(st.integers(1, 5)), st.text("abcxyz_0123", min_size=1, max_size=12)
    rows = [(draw(ops), s, t) for t in range(1, nodes + 1) for s in range(t)]
    return genotype("nas_bench_201", {"cell": rows}, {"cell": [nodes]})


@st.composite
def changed(draw, whole):
    """A genotype with one row dropped, doubled or changed, or with other outputs."""
    found = draw(whole)
    cells, outputs = dict(found.cells), dict(found.outputs)
    name = draw(st.sampled_from(found.names))
    rows = list(cells[name])
    at = draw(st.integers(0, len(rows) - 1))
    op, source, target = rows[at]
    other = (draw(names), source, target), (op, draw(st.integers(0, target - 1)), target), (op, source, source + 1)
    rows[at : at + 1] = draw(st.sampled_from(([], [rows[at]], [rows[at]] * 2, *([row] for row in other))))
    assume(rows)
    last = max(target for *_, target in rows)
    some = st.lists(st.integers(0, last), min_size=1, max_size=4, unique=True)
    kept = [state for state in outputs[name] if state <= last] or [last]
    return genotype(found.space, cells | {name: rows}, outputs | {name: draw(st.just(kept) | some)})


@given(any_cells())
def test_any_genotype_survives_json(found):
    assert read(to_json(found)) == from_json(to_json(found)) == found
    assert hash(from_json(to_json(found))) == hash(found)


@given(papers_cells())
def test_papers_cells_survive_their_notation(found):
    assert read(to_darts(found)) == from_darts(to_darts(found)) == found
    assert from_json(to_json(found)) == found


@given(benchmark_cells())
def test_benchmark_cells_survive_their_name(found):
    assert read(to_nas_bench_201(found)) == from_nas_bench_201(to_nas_bench_201(found)) == found


@pytest.mark.parametrize(
    "write, back, whole",
    [(to_darts, from_darts, papers_cells()), (to_nas_bench_201, from_nas_bench_201, benchmark_cells())],
    ids=("papers", "benchmark"),
)
def test_a_notation_refuses_or_returns_the_same(write, back, whole):
    """Both happen: to cells of its own, to almost such cells, and to any."""
    answers = set()

    @given(st.one_of(whole, changed(whole), any_cells()))
    def check(found):
        try:
            text = write(found)
        except ValueError:
            answers.add("refuses" if {"normal", "cell"} & set(found.names) else "refuses the names")
            return
        answers.add("returns")
        assert back(text).cells == found.cells and back(text).outputs == found.outputs

    check()
    assert answers >= {"refuses", "returns"}


pieces = st.sampled_from(
    ["Genotype(", ")", "normal=", "reduce=", "normal_concat=", "reduce_concat=", "range(2, 6)", "[", "]", ", "]
    + ["('a', 0)", "('a', 1)", "{", "}", '"cells": ', '"space": "s"', '"outputs": ', "|a~0|", "+", "|", "~1", "NaN"]
    + ["1e400", "9" * 30, "None", "lambda: 0", "*", "**x", "\0", "\\d", "x = "]
)
texts = st.one_of(st.text(), st.lists(pieces, max_size=20).map("".join))


@settings(max_examples=300)
@given(texts)
def test_any_text_is_a_genotype_or_a_value_error(text):
    for parse in (from_json, from_darts, from_nas_bench_201, read):
        assert_genotype_or_reason(parse, text)


@given(st.sampled_from(PUBLISHED), st.data())
def test_a_damaged_genotype_is_a_genotype_or_a_value_error(text, data):
    json = to_json(from_darts(text))
    for start, parse in ((text, from_darts), (json, from_json), (BENCHMARK, from_nas_bench_201)):
        at = data.draw(st.integers(0, len(start) - 1))
        damaged = start[:at] + data.draw(st.text(max_size=3)) + start[at + data.draw(st.integers(0, 3)) :]
        for reader in (parse, read):
            assert_genotype_or_reason(reader, damaged)


def assert_genotype_or_reason(parse, text):
    """A genotype comes back, or a ValueError that says something."""
    try:
        assert isinstance(parse(text), Genotype)
    except ValueError as error:
        assert str(error)
