"""The benchmark of one step: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from conftest import python

ROOT = Path(__file__).parent.parent
SMALL = ("--space", "nas_bench_201", "--channels", "2", "--depth", "1", "--batch", "2", "--image", "8", "--steps", "2")


def bench(*options):
    return python("-m", "benchmarks", *options, cwd=ROOT)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    done = bench(*SMALL, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads((out / "result.json").read_text())


def test_what_is_measured(result):
    out, found = result
    ours = found["ours"]
    for seconds in ("trace_seconds", "lower_seconds", "compile_seconds", "step_seconds"):
        assert 0 < ours[seconds] < 300
    for whole in ("stablehlo_lines", "temporary_bytes", "argument_bytes"):
        assert isinstance(ours[whole], int) and ours[whole] > 100
    assert len(ours["all_seconds"]) == 2
    assert ours["images_per_second"] == pytest.approx(2 / ours["step_seconds"])
    assert found["settings"]["space"] == "nas_bench_201" and found["devices"]["platform"]
    assert found["work"]["step_flops"] == 5 * found["work"]["forward_flops"] > 0
    assert all(isinstance(value, float | int) and value > 0 for value in found["machine"].values())
    assert (out / "result.png").stat().st_size > 1000


@pytest.mark.parametrize("option, value", [("--strategy", "dart"), ("--space", "nas"), ("--precision", "half")])
def test_wrong_names_are_told_in_one_sentence(tmp_path, option, value):
    done = bench(*SMALL, option, value, "--out", tmp_path / "bench")
    assert done.returncode == 1
    assert value in done.stderr and "choose one of" in done.stderr and "Traceback" not in done.stderr


def test_nothing_needs_torch():
    """The benchmark of our own step is imported without it."""
    code = "import sys; sys.modules['torch'] = None; import benchmarks.__main__, benchmarks.starts; print('fine')"
    assert python("-c", code, cwd=ROOT).stdout.strip() == "fine"
