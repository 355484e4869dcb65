"""The official numbers, through what anybody can run on any file of these formats: `tests/parity.py FILE...`.

Fixtures are compared in the process of the tests, as the command compares them; the command itself is run once.
"""

import json
from pathlib import Path

import jax
import numpy as np
import parity
import pytest
from conftest import python

HERE = Path(__file__).parent
FIXTURES = sorted(p for p in (HERE / "fixtures").iterdir() if p.suffix in (".npz", ".json"))


@pytest.fixture
def compared(capsys, x64):
    """Paths -> exit status and lines of the command, in float64 and JAX's own promotion, as there."""

    def compare(*paths: Path) -> tuple[int, list[str]]:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            status = parity.main([*map(str, paths)])
        return status, capsys.readouterr().out.splitlines()

    return compare


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.name)
def test_equals_the_official_code(path, compared):
    status, lines = compared(path)
    assert status == 0, "\n".join(lines)
    least = 3 if path.name.startswith("X_evalnet") else 10  # training, drop path, evaluation
    assert sum(line.startswith("  ok") for line in lines) == len(lines) - 1 >= least


SMALL = "B_nb201_darts_c4_n1.npz"  # the file that is compared every time in the forms and the layout for accelerators
ARRAYS = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] * (path.name != SMALL))
    for path in FIXTURES
    if path.suffix == ".npz"
]


@pytest.mark.parametrize("path", ARRAYS)
def test_as_accelerators_compute_it(path):
    """In a process of its own, in which nothing was lowered for CPU."""
    done = python(HERE / "parity.py", "--accelerator", path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    least = 3 if path.name.startswith("X_evalnet") else 10
    assert sum(line.startswith("  ok") for line in lines) == len(lines) - 1 >= least


def test_the_command_compares_several_files_in_float64(tmp_path):
    (tmp_path / "other.json").write_text('{"something": 1}')
    done = python(HERE / "parity.py", HERE / "fixtures/E_schedules.json", tmp_path / "other.json")
    assert done.returncode == 2 and done.stdout.count("  ok") >= 10 and "MISS" not in done.stdout
    assert "cannot compare: other.json: no comparison" in done.stdout


def test_a_miss_is_told_and_fails(compared, tmp_path):
    data = json.loads((HERE / "fixtures/E_schedules.json").read_text())
    first = next(iter(data["cosine_lr"]))
    data["cosine_lr"][first][7] *= 1 + 1e-8
    (tmp_path / "E.json").write_text(json.dumps(data))
    status, lines = compared(tmp_path / "E.json")
    assert status == 1
    assert [line.split()[0] for line in lines if first in line] == ["MISS", "MISS"]


def test_a_wrong_gradient_is_seen(compared, tmp_path):
    with np.load(HERE / "fixtures/X_ops_darts.npz") as z:
        arrays = {key: z[key] for key in z.files if key == "__meta__" or key.startswith("max_pool_3x3/s1/")}
    arrays["max_pool_3x3/s1/noaffine/gx"] = arrays["max_pool_3x3/s1/noaffine/gx"] * (1 + 1e-7)
    np.savez(tmp_path / "X.npz", **arrays)
    status, lines = compared(tmp_path / "X.npz")
    assert status == 1 and sum("MISS" in line for line in lines) == 1
