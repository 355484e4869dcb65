"""The studies run, at their smallest; and their page holds what their records say."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python

from jaxnas.planning import plan
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.strategies.algorithms import AGGRESSIVE, MILD, MODERATE

sys.path.append(str(Path(__file__).parent.parent))

from experiments import collapse, combined, exactness, precision, results, snas_constraint, truth
from experiments.batched import together

ROOT = Path(__file__).parent.parent


def test_cells_are_looked_up_after_every_epoch(tmp_path, capsys):
    """Of a row for all seeds in one program, and of one decoded otherwise; what is on record is not run again."""
    options = {"dataset": "digits", "data_dir": None, "table": None, "out": tmp_path, "smoke": True}
    rows = ["random", "darts-first-order"]
    records = truth.study(truth.searched, rows, **options)
    assert [(r["method"], r["seed"]) for r in records] == [(name, seed) for name in rows for seed in (0, 1)]
    for record in records:
        worth = [10.0 + 10 * cell.count("nor_conv_3x3") for cell in record["cells"]]
        assert record["cifar10_by_epoch"] == pytest.approx(worth)
        assert record["cifar10"] == record["cifar10_by_epoch"][-1]
        assert len(worth) == (1 if record["method"] == "random" else 4)  # three epochs, and the answer
    before = (tmp_path / "truth.json").read_text()
    whole = json.loads(before)["whole"]["cifar10"]
    assert whole == pytest.approx({"mean": 22.0, "deviation": 9.798, "best": 70.0}, rel=1e-3)
    table = capsys.readouterr().out.split("\n| method")[1]
    truth.study(lambda *_: pytest.fail("run again"), rows, **options)
    assert (tmp_path / "truth.json").read_text() == before and table in capsys.readouterr().out
    assert (tmp_path / "truth.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="give another --out"):
        truth.study(truth.searched, rows, **{**options, "smoke": False, "table": "t.npz"})


def test_one_program_finds_what_each_seed_finds_alone():
    planned = plan("darts-first-order", "nas_bench_201", epochs=2, batch=8, channels=2, fraction=0.02)
    first, second = (together(planned._replace(seed=seed), 1)[0] for seed in (0, 1))
    both = together(planned, 2)
    assert [one.genotypes for one in both] == [first.genotypes, second.genotypes]
    np.testing.assert_allclose([one.entropy for one in both], [first.entropy, second.entropy], rtol=1e-6)


def test_composed_rows_search(tmp_path):
    records = truth.study(combined.searched, ["pc-darts x gdas"], "digits", None, None, out=tmp_path, smoke=True)
    assert {record["method"] for record in records} == {"pc-darts x gdas"}
    assert all(len(record["cells"]) == 4 and record["entropy"] > 0 for record in records)


@pytest.mark.slow
def test_sizes_are_found_by_weight(tmp_path):
    snas_constraint.main(smoke=True, out=tmp_path, data_dir=None, alpha_rate=3e-2)
    told = json.loads((tmp_path / "snas_constraint.json").read_text())
    assert [row["lambda"] for row in told["rows"]] == [0, 1e-3] and told["steps"] == 2
    assert all(1e6 < row["parameters"] < 1e7 for row in told["rows"])


@pytest.mark.slow
def test_composed_stages_search(tmp_path):
    rows = ["pc-darts x gdas x p-darts"]
    records = truth.study(combined.searched, rows, "digits", None, None, out=tmp_path, smoke=True)
    assert [len(record["cells"]) for record in records] == [4, 4]


def record(epoch: int, curvature: float | None, skips: int) -> dict:
    edges = [["skip_connect" if i < skips else "sep_conv_3x3", 0, 2 + i] for i in range(4)]
    both = lambda value: dict.fromkeys(("normal", "reduce"), value)
    genotype = {"space": "s2", "cells": both(edges), "outputs": both([2, 3, 4, 5])}
    found = {"epoch": epoch, "valid_accuracy": 0.5, "genotype": genotype}
    return found if curvature is None else {**found, "measured": {"curvature": curvature}}


def test_a_collapse_is_told():
    """Skips that grow with a curvature that doubles late; the rule would have gone back to before that."""
    calm = [record(e, 0.1 if e % 2 else None, 1) for e in range(1, 24)]
    steep = [record(e, 0.3 if e % 2 else None, 4) for e in range(24, 36)]
    told = collapse.told(calm + steep)
    assert told["skips"] == [1] * 23 + [4] * 12 and told["curvature"]["25"] == 0.3
    assert 10 <= told["stopped_at"] <= 23 and set(told["cells"]) == {str(told["stopped_at"]), "35"}
    assert collapse.told(calm)["stopped_at"] is None
    row = {"space": "s2", "decay": 3e-4, "seed": 0, **told, "retrained": {"last": 40.0, "stopped": 45.0}}
    assert collapse.table_of([row]).splitlines()[-1].startswith("| s2 | 0.0003 | 0 | 4 | 0.3 | 0.3 | 50.0 |")
    other = {**row, "space": "s3", "stopped_at": None, "retrained": {"last": 50.0}}
    lines = collapse.stopping_of([row, {**row, "retrained": {"last": 40.0, "stopped": 39.0}}, other]).splitlines()
    assert lines[2].startswith("| s2 | 2 | 2 | 1 | +2.00 ± 4.24 |") and lines[3] == "| s3 | 1 | 0 | 0 |  |  |"
    assert lines[4] == "| all | 3 | 2 | 1 | +2.00 ± 4.24 |  |"
    assert "| has noise |" in collapse.table_of([{**row, "retrained": {"last": None}}])
    skips, curvature = collapse.picture([row]).axes
    assert skips.lines[0].get_ydata()[-1] == 4 and curvature.lines[0].get_ydata()[-1] == 0.3


@pytest.mark.slow
def test_collapse_searches_and_retrains(tmp_path):
    collapse.main(smoke=True, out=tmp_path, data_dir=None, dataset="digits", spaces="s2", seeds=1, epochs=1)
    told = json.loads((tmp_path / "collapse.json").read_text())
    assert [r["decay"] for r in told["records"]] == [3e-4, 9e-4]
    assert all(0 <= r["retrained"]["last"] <= 100 for r in told["records"])


@pytest.mark.slow
def test_hypergradients_are_compared_along_a_search(tmp_path):
    exactness.main(smoke=True, out=tmp_path, seed=0)
    told = json.loads((tmp_path / "exactness.json").read_text())
    assert [(r["step"], r["radius"]) for r in told["rows"]] == [(t, r) for t in (0, 1) for r in exactness.RADII]
    assert all(abs(r["implicit_cosine"]) <= 1.0001 and r["implicit_error"] > 0 for r in told["rows"])


def test_products_are_shortened():
    """In derivatives, loops, branches and what is computed again, and in this library's own primitives."""
    draw = np.random.default_rng(0).standard_normal
    a, b = (jnp.asarray(draw((4, 4)), jnp.float32) for _ in range(2))
    short = lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)
    plain = jax.grad(lambda a: jnp.tanh(a @ b).sum())
    slope = 1 - jnp.tanh(short(a) @ short(b)) ** 2
    wanted = short(slope) @ short(b).T
    np.testing.assert_array_equal(precision.with_short_products(plain, 7)(a), wanted)
    assert np.abs(plain(a) - wanted).max() > 1e-4
    np.testing.assert_array_equal(precision.with_short_products(plain, 23)(a), plain(a))

    def inside(a):
        again = jax.checkpoint(lambda x: jax.lax.cond(x[0, 0] > 10, lambda x: x, lambda x: x @ b, x))
        return jax.lax.scan(lambda x, _: (jax.jit(again)(x), None), a, None, length=2)[0]

    np.testing.assert_array_equal(precision.with_short_products(inside, 7)(a), short(short(a) @ short(b)) @ short(b))
    x, k = jnp.asarray(draw((1, 4, 4, 2)), jnp.float32), jnp.asarray(draw((3, 3, 2)), jnp.float32)
    found = precision.with_short_products(depthwise_convolution, 7)(x, k)
    np.testing.assert_allclose(found, depthwise_convolution(short(x), short(k)), rtol=1e-6)
    assert np.abs(found - depthwise_convolution(x, k)).max() > 1e-3


@pytest.mark.slow
def test_short_numbers_are_compared_along_a_search(tmp_path):
    precision.main(smoke=True, out=tmp_path, data_dir=None, kinds="bfloat16; TF32 products")
    told = json.loads((tmp_path / "precision.json").read_text())
    kinds = ("bfloat16", "TF32 products")
    assert [(r["step"], r["kind"], r["part"]) for r in told["rows"]] == [
        (t, kind, part) for t in (0, 1) for kind in kinds for part in precision.PARTS
    ]
    error = lambda kind: np.mean([r["error"] for r in told["rows"] if r["kind"] == kind and r["part"] == "first"])
    assert 0 < error("TF32 products") < error("bfloat16") < 0.5
    assert precision.table(told["rows"]).count("\n") == 1 + 2 * len(precision.PARTS)


@pytest.mark.slow
def test_rows_are_measured_side_by_side(tmp_path):
    out = tmp_path / "new" / "rows.json"
    done = python("-m", "benchmarks.rows", "--smoke", "--out", out, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    assert list(told["rows"])[:2] == ["darts-first-order", "gdas"] and told["settings"]["channels"] == 2
    lines = results.rows_table(told).splitlines()
    assert lines[2].startswith("| darts-first-order | ") and lines[2].split(" | ")[2] == "1.00"


@pytest.mark.parametrize("page", results.PAGES, ids=lambda page: page.stem)
def test_a_page_holds_what_the_records_say(page):
    text = page.read_text()
    assert "<!-- table: " in text and results.filled(text, ROOT / "experiments" / "studies") == text


def test_every_study_and_every_record_is_shown():
    text = "".join(page.read_text() for page in results.PAGES)
    assert sorted(results.re.findall(r"<!-- table: ([\w-]+) -->", text)) == sorted(results.STUDIES)
    recorded = {path.stem for path in (ROOT / "experiments" / "studies").glob("*.json")}
    assert recorded <= set(results.STUDIES)
    assert all(results.picture(name).exists() for name in recorded if results.STUDIES[name].picture)


def test_a_study_without_a_record_says_so(tmp_path):
    assert "Not run yet" in results.filled("<!-- table: truth -->\nold\n<!-- end -->", tmp_path)


def test_the_presets_of_snas_are_the_fitted_ones():
    rows = json.loads((ROOT / "experiments" / "studies" / "snas_constraint.json").read_text())["rows"]
    fitted = [line.split(" | ")[2].rstrip(" |") for line in snas_constraint.tables(rows).splitlines()[-3:]]
    assert [float(x) for x in fitted] == [MILD, MODERATE, AGGRESSIVE]
