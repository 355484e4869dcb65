"""The official numbers, through the command that anybody can run on any file of these formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import python

HERE = Path(__file__).parent
FIXTURES = sorted(p for p in (HERE / "fixtures").iterdir() if p.suffix in (".npz", ".json"))


def parity(*paths: Path):
    return python(HERE / "parity.py", *paths, flags="--xla_backend_optimization_level=0")  # compiled fast; runs once


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.name)
def test_equals_the_official_code(path):
    done = parity(path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    least = 3 if path.name.startswith("X_evalnet") else 10  # training, drop path, evaluation
    assert sum(line.startswith("  ok") for line in lines) == len(lines) - 1 >= least


def test_a_miss_is_told_and_fails(tmp_path):
    data = json.loads((HERE / "fixtures/E_schedules.json").read_text())
    first = next(iter(data["cosine_lr"]))
    data["cosine_lr"][first][7] *= 1 + 1e-8
    (tmp_path / "E.json").write_text(json.dumps(data))
    done = parity(tmp_path / "E.json")
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if first in line] == ["MISS", "MISS"]


def test_a_wrong_gradient_is_seen(tmp_path):
    with np.load(HERE / "fixtures/X_ops_darts.npz") as z:
        arrays = {key: z[key] for key in z.files if key == "__meta__" or key.startswith("max_pool_3x3/s1/")}
    arrays["max_pool_3x3/s1/noaffine/gx"] = arrays["max_pool_3x3/s1/noaffine/gx"] * (1 + 1e-7)
    np.savez(tmp_path / "X.npz", **arrays)
    done = parity(tmp_path / "X.npz")
    assert done.returncode == 1 and done.stdout.count("MISS") == 1


def test_an_unknown_file_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"something": 1}')
    done = parity(tmp_path / "other.json")
    assert done.returncode == 2 and "no comparison" in done.stdout
