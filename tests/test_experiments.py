"""The arithmetic of the experiments; their searches are run by hand."""

import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "experiments"


def experiment(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exactness():
    return experiment("exactness")


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


def test_where_sizes_cross_the_published_ones():
    """Means over seeds; halfway in log lambda; lambda 0 and a crossing upwards do not count."""
    fit = experiment("snas_constraint")
    sizes = {0.0: (5.0, 5.0), 1e-3: (2.7, 2.9), 1e-2: (3.1, 3.1), 1e-1: (2.6, 2.4)}
    rows = [{"lambda": x, "parameters": 1e6 * y} for x, pair in sizes.items() for y in pair]
    lines = fit.tables(rows).splitlines()
    assert "| 0.001 | 2.80 |" in lines and "| 0.1 | 2.50 |" in lines
    assert "| moderate | 2.8 | 0.032 |" in lines and "| aggressive | 2.3 | not crossed |" in lines
