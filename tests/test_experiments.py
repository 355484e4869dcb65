"""The arithmetic of the experiments; their searches are run by hand."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

PATH = Path(__file__).parent.parent / "experiments" / "exactness.py"


@pytest.fixture(scope="module")
def exactness():
    spec = importlib.util.spec_from_file_location("exactness", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_agreement(exactness):
    exact = {"normal": jnp.array([[3.0, 0.0]]), "reduce": jnp.array([4.0])}
    twice = {cell: 2 * a for cell, a in exact.items()}
    across = {"normal": jnp.array([[0.0, 5.0]]), "reduce": jnp.array([0.0])}
    found = exactness.agreement(twice, exact)
    np.testing.assert_allclose((found["cosine"], found["error"]), (1, 1), rtol=1e-6)
    found = exactness.agreement(across, exact)
    np.testing.assert_allclose((found["cosine"], found["error"]), (0, np.sqrt(2)), rtol=1e-6)


def test_table_and_picture(exactness):
    rows = [
        {"step": t, "radius": r, "share": 0.5, "implicit_cosine": r * t, "implicit_error": 1 / r, "whole_cosine": 1.0}
        for t in (1, 2, 9)
        for r in exactness.RADII
    ]
    lines = exactness.table(rows).splitlines()
    assert len(lines) == 2 + len(exactness.RADII)
    assert lines[3] == "| 0.01 (official) | 0.020 | 100.00 | 1.000 |"  # medians over the steps
    cosine, error = exactness.picture(rows).axes
    assert len(cosine.lines) == len(error.lines) == len(exactness.RADII) and error.get_yscale() == "log"
