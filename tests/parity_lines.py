"""What a comparison with the official numbers is made of: files in, lines out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"
EXACT, CLOSE = 1e-9, 1e-8  # CLOSE: what has gone through a central difference with kinks on its way
Tensors = Mapping[str, np.ndarray]


class Line(NamedTuple):
    """One compared quantity."""

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # false for NaN


class Image(NamedTuple):
    """A batch."""

    image: jax.Array
    label: jax.Array


def close(name: str, ours, theirs, tolerance: float = EXACT, scale: float | None = None) -> Line:
    """Largest difference over the largest reference value (or over `scale`)."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return Line(f"{name} (shape {ours.shape}, reference {theirs.shape})", float("inf"), tolerance)
    scale = np.abs(theirs).max(initial=0) if scale is None else scale
    return Line(name, float(np.abs(ours - theirs).max(initial=0) / (scale or 1.0)), tolerance)


def equal(name: str, ours, theirs) -> Line:
    """0 where both are the same, 1 where not."""
    return Line(name if ours == theirs else f"{name}: ours {ours}, reference {theirs}", float(ours != theirs), 0.0)


def batch(x: np.ndarray, y: np.ndarray) -> Image:
    """NCHW images -> ours."""
    return Image(jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(y))


def part(z: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """Arrays under a prefix, without it."""
    return {key.removeprefix(prefix): z[key] for key in z if key.startswith(prefix)}


def load(path: Path) -> dict:
    """Arrays of an .npz, or the content of a .json."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with np.load(path, allow_pickle=False) as z:
        return {key: z[key] for key in z.files}


def beside(folder: Path, name: str) -> Path:
    """A companion file: beside the given one, or among the fixtures."""
    for place in (folder, FIXTURES):
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f"this file starts from the weights of {name}: put it into {folder} or {FIXTURES}.")
