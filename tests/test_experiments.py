"""The arithmetic of the experiments, and of the table of reproductions.

The reproductions are run in `test_reproductions.py`; the other experiments by hand.
"""

import json
import sys
from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))

from experiments import exactness as _exactness
from experiments import snas_constraint, table
from experiments.reproduction import Expected


@pytest.fixture(scope="module")
def exactness():
    return _exactness


def test_agreement(exactness):
    exact = {"normal": jnp.array([[3.0, 0.0]]), "reduce": jnp.array([4.0])}
    twice = {cell: 2 * a for cell, a in exact.items()}
    across = {"normal": jnp.array([[0.0, 5.0]]), "reduce": jnp.array([0.0])}
    found = exactness.agreement(twice, exact)
    np.testing.assert_allclose((found["cosine"], found["error"]), (1, 1), rtol=1e-6)
    found = exactness.agreement(across, exact)
    np.testing.assert_allclose((found["cosine"], found["error"]), (0, np.sqrt(2)), rtol=1e-6)


def test_table_and_picture(exactness):
    told = {"share": 0.5, "whole_cosine": 1.0}
    rows = [
        {**told, "step": t, "batch": b, "radius": r, "implicit_cosine": r * t * b, "implicit_error": 1 / r}
        for t, b, r in product((1, 2, 9), (8, 16), exactness.RADII)
    ]
    lines = exactness.table(rows).splitlines()
    assert len(lines) == 2 + 2 * len(exactness.RADII)
    # medians over the steps, of one size of batch
    assert lines[3] == "| 8 | 0.01 (official) | 3 | 0.160 (0.120 to 0.440) | 100.00 | 0.50 | 1.000 |"
    assert exactness.by_step(rows).splitlines()[2] == "| 8 | 1 | 0.080 | 100.000 | 0.500 | 1.000 |"
    cosine, error = exactness.picture(rows).axes[2:]
    assert cosine.lines[1].get_ydata()[0] == 0.16
    assert len(cosine.lines) == len(error.lines) == len(exactness.RADII) and error.get_yscale() == "log"


def test_where_sizes_cross_the_published_ones():
    """Means over seeds; halfway in log lambda; lambda 0 and a crossing upwards do not count."""
    sizes = {0.0: (5.0, 5.0), 1e-3: (2.7, 2.9), 1e-2: (3.1, 3.1), 1e-1: (2.6, 2.4)}
    rows = [{"lambda": x, "parameters": 1e6 * y} for x, pair in sizes.items() for y in pair]
    lines = snas_constraint.tables(rows).splitlines()
    assert "| 0.001 | 2.80 | 2.70, 2.90 |" in lines and "| 0.1 | 2.50 | 2.60, 2.40 |" in lines
    assert "| moderate | 2.8 | 0.032 |" in lines and "| aggressive | 2.3 | not crossed |" in lines


# ------------------------------------------------------------------------------- the table of the reproductions


def record(name, seed, error, parameters=3.3e6, hours=12.0):
    measured = {"error": error, "parameters": parameters, "search_seconds": 3600 * hours, "seconds": None}
    devices = {"kind": "some GPU", "used": 1}
    return {"experiment": name, "seed": seed, "smoke": False, "measured": measured, "devices": devices}


def test_the_page_is_what_the_generator_makes():
    """If this fails: `python -m experiments.table`."""
    assert (table.FOLDER / "README.md").read_text(encoding="utf-8") == table.markdown(table.results())


def test_a_row_has_ours_beside_the_papers():
    paper = Expected(error=3.0, deviation=0.14, parameters=3.3)
    runs = [record("darts_first_order", seed, error) for seed, error in enumerate((2.5, 3.0, 3.5))]
    cells = table.row("darts_first_order", "DARTS", paper, runs)
    assert len(cells) == len(table.COLUMNS)
    assert cells[2:] == ["3.00 ± 0.14", "", "3.00 ± 0.50", "3", "3.3", "3.30 ± 0.00", "12.00 ± 0.00", "1 x some GPU"]
    alone = table.row("snas mild", "SNAS", Expected(), runs[:1])
    assert alone[0] == "[snas](snas.py) mild" and alone[2:6] == ["", "", "2.50", "1"]


def test_what_was_not_run_says_so():
    assert table.row("gdas", "GDAS", Expected(error=2.93), [])[2:] == ["2.93", "", "not run", "", "", "", "", ""]
    empty = table.markdown({name: [] for module in table.reproductions() for name in table.variants(module)})
    lines = [line for line in empty.splitlines() if line.startswith("| [")]
    assert len(lines) > 50 and all("| not run |" in line for line in lines)


def test_results_are_kept_once_for_each_seed(tmp_path):
    run, kept = tmp_path / "run", tmp_path / "kept"
    run.mkdir(), kept.mkdir()
    (run / "result.json").write_text(json.dumps(record("snas mild", 3, 2.9)))
    assert table.keep(run, kept) == kept / "snas-mild-3.json"
    found = table.results(kept)
    assert [one["measured"]["error"] for one in found["snas mild"]] == [2.9] and found["gdas"] == []
    assert "| 2.90 | 1 |" in table.markdown(found)
    (kept / "twice.json").write_text(json.dumps(record("snas mild", 3, 2.8)))
    with pytest.raises(ValueError, match="seed 3 of snas mild"):
        table.results(kept)
    (kept / "twice.json").write_text(json.dumps(record("nobody", 3, 2.8)))
    with pytest.raises(ValueError, match="no reproduction 'nobody'"):
        table.results(kept)
    (run / "result.json").write_text(json.dumps({**record("snas mild", 3, 2.9), "smoke": True}))
    with pytest.raises(ValueError, match="--smoke"):
        table.keep(run, kept)
