"""Every test runs with 8 CPU devices, strict promotion, and programs compiled fast, not to fast code, and kept.

Files start in the order of `FIRST`, and the CPU seconds of the tests are told and, where CI says how many, limited.
"""

import gc
import os
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",  # what programs do stays; tests of their size compile in full
        # halves what is left of compiling; XLA ends a process over a flag that it does not know, as from 0.11 on
        "--xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else "",
    )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import numpy as np
import pytest

hypothesis.settings.register_profile("no clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("no clock")  # tests do not fail because a machine is busy
gc.freeze()  # tracing makes millions of small objects, which the collector would look at again and again
gc.set_threshold(50_000, 20, 100)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
CACHE = os.environ.get("JAXNAS_TEST_CACHE", str(Path(tempfile.gettempdir()) / "jaxnas-test-cache"))
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
FULL = {"xla_backend_optimization_level": 3}  # as users' programs are compiled
if "fusion_emitters" in os.environ["XLA_FLAGS"]:
    FULL["xla_cpu_use_fusion_emitters"] = True
FAST = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")


def python(*args, **options):
    """A Python of its own: its exit status and output; programs compiled by the tests are found."""
    env = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": CACHE,
        "XLA_FLAGS": FAST,
        "COLUMNS": "200",
    }
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, **options)


@pytest.fixture
def answer(monkeypatch, capsys):
    """(function that runs a command line, its arguments...) -> exit status, stdout, stderr; in this process."""

    def run(main, *args):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        return status or 0, *capsys.readouterr()

    return run


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
    """The DARTS space with two cells, two channels, three operations and 8x8 images: compiles in seconds."""
    from draws import two_cells

    from jaxnas.spaces.darts import SEARCHED, darts

    kept = ("none", "skip_connect", "sep_conv_3x3")
    space = two_cells(darts(channels=2, layers=3, classes=4, image=(8, 8, 3)))
    return space.replace(ops=tuple(op for op in SEARCHED if op[0] in kept))


@pytest.fixture
def x64():
    """Float64 inside one test."""
    with jax.enable_x64(True):
        yield


# ---------------------------------------------------------------- order and seconds

# files that compile nothing; then the longest, so that no worker is left alone with one of them
FIRST = (
    *("layers", "public", "table", "published", "space", "genotype", "genotype_properties", "interop", "stopping"),
    *("statistics", "logs", "drawing", "comparison"),
    *("parity", "budgets", "networks", "runner", "layout", "product", "studies", "search", "faults"),
)


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))


def used() -> float:
    """CPU seconds of this process and of those it has started and seen end."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


BUDGET = float(os.environ.get("JAXNAS_TEST_BUDGET", 0))
LAST = [used()]  # at the last report of this process
SECONDS: dict[str, float] = {}  # by test, in the process that prints


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """A report carries the seconds since the one before: of its fixtures, its call, or its end."""
    report, now = (yield), used()
    report.cpu_seconds, LAST[0] = now - LAST[0], now
    return report


def pytest_runtest_logreport(report):
    SECONDS[report.nodeid] = SECONDS.get(report.nodeid, 0.0) + getattr(report, "cpu_seconds", 0.0)


def pytest_terminal_summary(terminalreporter):
    files: dict[str, float] = {}
    for name, seconds in SECONDS.items():
        files[name.partition("::")[0]] = files.get(name.partition("::")[0], 0.0) + seconds
    for what, known in (("files", files), ("tests", SECONDS)):
        dearest = sorted(known.items(), key=lambda item: -item[1])[:30]
        terminalreporter.section(f"the 30 dearest {what}, in CPU seconds, compilation included")
        for name, seconds in dearest:
            terminalreporter.write_line(f"{seconds:7.1f} {name}")
    terminalreporter.write_line(f"{sum(SECONDS.values()):7.1f} all {len(SECONDS)} tests; at most {BUDGET or 'any'}")


def pytest_sessionfinish(session):
    """More seconds than allowed are a failure, of the run and of no test."""
    if BUDGET and sum(SECONDS.values()) > BUDGET and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
