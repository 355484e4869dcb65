"""How decided alpha is: what is measured, what is said, and where it stands."""

import io

import numpy as np
import pytest
from rich.console import Console

from jaxnas import progress
from jaxnas.evaluation.decision import decision, doubt, level, told
from jaxnas.spaces.genotype import from_nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Gates
from jaxnas.strategies.penalty import mean_entropy

EVERY = {"cell": np.ones((6, 5), bool)}


def table(*row):
    return {"cell": np.tile(row, (6, 1))}


def test_gates_that_are_all_alike_are_undecided():
    found = decision(table(*[0.2] * 5), EVERY)
    assert found.entropy == pytest.approx(np.log(5), abs=1e-6) == found.level and found.margin == 0
    assert "100% of undecided" in told(found) and "toss of a coin" in doubt(found)
    assert level(EVERY) == found.level


def test_a_decided_alpha_is_no_doubt():
    found = decision(table(0.9, 0.05, 0.05, 0.0, 0.0), EVERY)
    assert found.margin == pytest.approx(0.85) and not doubt(found)


def test_entropies_are_those_of_the_records():
    gates = np.random.default_rng(0).dirichlet(np.ones(5), 6)
    expected = float(mean_entropy(Gates(gates, np.ones(6))))
    assert decision({"cell": gates}, EVERY).entropy == pytest.approx(expected, abs=1e-5)


def test_only_living_operations_count_and_gates_need_not_sum_to_one():
    alive = {"cell": np.array([[True, True, False, False, False]] * 6)}
    found = decision(table(0.8, 0.8, 0.7, 0.0, 0.0), alive)
    assert found.level == pytest.approx(np.log(2), abs=1e-6) == found.entropy


def test_one_operation_an_edge_is_nothing_to_decide():
    alone = {"cell": np.eye(5, dtype=bool)[[0] * 6]}
    found = decision(table(1.0, 0, 0, 0, 0), alone)
    assert found.level == 0 and found.margin == 1 and not doubt(found) and "nothing was to be decided" in told(found)


def test_a_small_lead_is_a_doubt_at_any_entropy():
    found = decision(table(0.49, 0.47, 0.04, 0.0, 0.0), EVERY)
    assert found.entropy < 0.6 * found.level and doubt(found)


def test_the_end_of_a_search_says_it_and_what_comes_next(tmp_path):
    text, space = io.StringIO(), nas_bench_201(4, 1)

    cell = from_nas_bench_201("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    seconds = {"total": 3.0, "compile": 1.0, "run": 2.0}
    found = decision(table(*[0.2] * 5), {"cell": space.mask("cell")})
    out = tmp_path / "a [run]"
    progress.show_end(Console(file=text, width=200), out, cell, seconds, [out / "cells.png"], found)
    said = text.getvalue()
    assert "of undecided" in said and "warning: alpha is undecided" in said
    assert f"jaxnas evaluate '{out}' --out '{out}-trained'" in said and "jaxnas compare" in said
