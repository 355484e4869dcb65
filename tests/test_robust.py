"""Rows of R-DARTS, dropped paths, and searches made of several runs."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from test_runner import DATA, SPACE, augment, numbers, sizes

from jaxnas import folder, robust
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.evaluation.stopping import Verdict
from jaxnas.hypergradient import Batches, Problem, first_order
from jaxnas.robust import adaptive, grid, pick_by_validation
from jaxnas.runner import Result
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import darts, r_darts_drop_path, r_darts_l2
from jaxnas.strategies.mixing import dropped_path, partial_channels

OPS = {"same": lambda x, gate: gate * x}
ROW = darts(9, hypergradient=first_order(), every=3)  # the program that the tests of the runner compile, too


def test_the_document_runs():
    """It defines three searches and picks from records; nothing is compiled."""
    text = (Path(__file__).parent.parent / "docs" / "robust.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "docs/robust.md", "exec"), names)
    assert callable(names["darts_es"]) and callable(names["darts_ada"]) and callable(names["r_darts"])


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(folder, "draw", lambda *_: [])


def test_dropped_paths_keep_the_mean_and_fall_image_by_image(key):
    x, step = jnp.ones((4000, 2, 2, 3)), jnp.int32(5)
    y = np.asarray(dropped_path(lambda s: s / 10).mix(OPS, jnp.ones(1), x, key, step))
    assert set(np.unique(y)) == {0, 2} and all(len(np.unique(image)) == 1 for image in y[:50])
    assert abs(y[:, 0, 0, 0].mean() - 1) < 4 / np.sqrt(4000)  # the deviation of one image is 1
    other = dropped_path(lambda s: s / 10).mix(OPS, jnp.ones(1), x, jax.random.key(1), step)
    assert (np.asarray(other) != y).any()


def test_paths_that_are_not_dropped_are_untouched(key):
    x, inner = jax.random.normal(key, (3, 2, 2, 4)), partial_channels(2)
    same = dropped_path(lambda s: 0.0, inner)
    np.testing.assert_array_equal(
        same.mix(OPS, jnp.ones(1), x, key, jnp.int32(0)), inner.mix(OPS, jnp.ones(1), x, key, jnp.int32(0))
    )
    assert same.width(8) == 4
    half = same.mix(OPS, jnp.ones(1, jnp.bfloat16), x.astype(jnp.bfloat16), key, jnp.int32(0))
    assert half.dtype == jnp.bfloat16


def test_rows_decay_and_drop_as_they_say(key):
    """The gradient of the decay in one step of the weights; half of the images dropped at the end of the ramp."""
    weights = jnp.ones(2)
    steps = []
    for row in (darts(10, hypergradient=first_order()), r_darts_l2(10, 3e-2, hypergradient=first_order())):
        flat = lambda level, w, a, b: (jnp.zeros(()) * (w.sum() + a.sum()), {})
        state, _ = row.solver.step(Problem(flat), row.solver.init(weights, jnp.ones(2)), Batches(0.0, 0.0))
        steps.append(np.asarray(weights - state.weights))
    np.testing.assert_allclose(steps, [[0.025 * 3e-4] * 2, [0.025 * 3e-2] * 2], rtol=1e-2)
    mix = r_darts_drop_path(10, 0.5, every=5).mixing.mix
    x = jnp.ones((1000, 1, 1, 1))
    first, last = (mix(OPS, jnp.ones(1), x, key, jnp.int32(step)) for step in (4, 5))
    assert (first == 1).all() and 400 < int((last == 0).sum()) < 600
    with pytest.raises(ValueError, match="rate=1"):
        r_darts_drop_path(10, 1.0)


OPTIONS = {"batch": 4, "augment": augment, "console": Console(quiet=True)}


def test_adaptive_goes_back_and_on_with_more_decay(tmp_path):
    """The rule fires after epoch 3 and names epoch 2. Since this row ignores the decay, the end is that of one run."""
    asked = []
    row = lambda decay: (asked.append(decay), ROW)[1]
    rule = lambda records: Verdict(2, "enough") if len(records) == 3 else None
    go = lambda out, **more: adaptive(row, 4, SPACE, DATA, jax.random.key(0), out=tmp_path / out, **{**OPTIONS, **more})
    watch = Watch(sizes)
    found = go("a", decays=(1e-3, 1e-2), stop=rule, watch=watch)
    assert asked == [1e-3, 1e-2] and found.stopped is None and found.folder.name == "decay-0.01"
    first = folder.read_records(tmp_path / "a" / "decay-0.001")
    assert [r["epoch"] for r in first] == [1, 2, 3] and first[-1]["stopped"] == {"epoch": 2, "why": "enough"}
    whole = go("b", decays=(1e-3,), stop=rule, watch=watch)  # the last decay runs to its end
    assert len(whole.records) == 4 and numbers(found.records) == numbers(whole.records)
    np.testing.assert_array_equal(found.state.bilevel.alpha["normal"], whole.state.bilevel.alpha["normal"])
    assert folder.read_scores(found.folder)["normal"].shape[0] == 4
    assert json.loads((found.folder / "config.json").read_text())["decay"] == 1e-2
    assert go("a", decays=(1e-3, 1e-2), stop=rule, watch=watch).records == found.records  # nothing is run again
    with pytest.raises(FileNotFoundError, match=r"no state of epoch 5 .*kept"):
        folder.branch(found.folder, tmp_path / "c", 5, {})


def test_adaptive_wants_rising_decays(tmp_path):
    with pytest.raises(ValueError, match="larger than the one before"):
        adaptive(lambda decay: ROW, 4, SPACE, DATA, jax.random.key(0), out=tmp_path / "a", decays=(1e-2, 1e-3))


def test_grid_runs_each_row_and_takes_the_best(tmp_path, monkeypatch):
    """The runs are made up: "b" is there already and goes on, "a" starts."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").touch()

    def run(stages, space, data, key, *, out, settings, resume, batch, console):
        consoles.add(console)
        records = [{"epoch": 1, "valid_accuracy": 0.5 + resume}]
        asked[out.name] = (stages, settings, resume, batch)
        return Result(genotype=None, state=None, records=records, folder=out)

    monkeypatch.setattr(robust, "run", run)
    consoles: set = set()
    rows, asked = {"a": ROW, "b": ROW.replace(mixing=partial_channels(2))}, {}
    go = lambda **more: grid(rows, 2, SPACE, DATA, jax.random.key(0), out=tmp_path, batch=4, settings={"s": 1}, **more)
    picked = go()
    assert len(consoles) == 1  # in a notebook, one output box for all runs
    assert picked.name == "b" and picked.scores == {"a": 0.5, "b": 1.5} and picked.result.folder == tmp_path / "b"
    for name, resume in (("a", False), ("b", True)):
        assert asked[name] == ([Stage(rows[name], 2)], {"s": 1, "row": name}, resume, 4)
    assert go(score=lambda result: -result.records[0]["valid_accuracy"]).name == "a"


def test_picking_looks_at_the_answer_and_not_at_the_last_epoch():
    record = lambda epoch, accuracy, **more: {"epoch": epoch, "valid_accuracy": accuracy, **more}
    stopped = [record(1, 0.9), record(2, 0.1, stopped={"epoch": 1, "why": ""})]
    assert pick_by_validation({"plain": [record(1, 0.5), record(2, 0.8)], "stopped": stopped}) == "stopped"
    with pytest.raises(ValueError, match="no runs"):
        pick_by_validation({})
    with pytest.raises(ValueError, match="epoch 2 has no 'loss'"):
        pick_by_validation({"plain": [record(1, 0.5), record(2, 0.8)]}, "loss")
