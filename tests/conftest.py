"""Every test runs with 8 CPU devices, strict promotion, and programs compiled fast, not to fast code, and kept."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",  # what programs do stays; tests of their size compile in full
    )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
CACHE = os.environ.get("JAXNAS_TEST_CACHE", str(Path(tempfile.gettempdir()) / "jaxnas-test-cache"))
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def python(*args, flags="", **options):
    """A Python of its own: its exit status and output; programs compiled by the tests are found."""
    env = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": CACHE,
        "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
        "COLUMNS": "200",
    }
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, **options)


@pytest.fixture
def key():
    """A fixed key."""
    return jax.random.key(0)


@pytest.fixture
def draw():
    """Shape -> standard normal numbers, the same whatever ran before."""
    return np.random.default_rng(6).standard_normal


@pytest.fixture
def tiny_space():
    """The DARTS space with three cells, two channels, three operations and 8x8 images: compiles in seconds."""
    from jaxnas.spaces.darts import SEARCHED, darts

    kept = ("none", "skip_connect", "sep_conv_3x3")
    space = darts(channels=2, layers=3, classes=4, image=(8, 8, 3))
    return space.replace(ops=tuple(op for op in SEARCHED if op[0] in kept))


@pytest.fixture
def x64():
    """Float64 inside one test."""
    with jax.enable_x64(True):
        yield
