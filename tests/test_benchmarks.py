"""The benchmarks' entry on the smallest step: what it writes, and what it says to nonsense."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import python

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import command, rows, show, side_by_side
from benchmarks.__main__ import main as measured
from benchmarks.case import Case
from benchmarks.child import ROOT
from benchmarks.memory import working
from benchmarks.peers import interleave

TINY = ("--space", "nas_bench_201", "--channels", 2, "--depth", 1, "--batch", 2, "--image", 8, "--steps", 2)
NUMBERS = {
    "ours": ("trace_seconds", "lower_seconds", "compile_seconds", "step_seconds", "images_per_second", "xla_flops"),
    "machine": ("matmul_gflops", "copy_gb_per_second"),
}
COUNTS = {
    "ours": ("stablehlo_lines", "temporary_bytes", "argument_bytes", "output_bytes", "donated_bytes"),
    "work": ("forward_flops",),
    "settings": ("channels", "depth", "batch", "image", "steps", "seed"),
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark")
    done = python("-m", "benchmarks", *TINY, "--peer", "--out", out, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "StableHLO lines" in done.stdout and "the peer knows darts" in done.stdout
    assert (out / "result.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((out / "result.json").read_text())


def test_the_record(result):
    for names, kind in ((NUMBERS, float), (COUNTS, int)):
        for part, fields in names.items():
            for field in fields:
                assert isinstance(result[part][field], kind) and result[part][field] >= 0, field
    assert len(result["ours"]["all_seconds"]) == result["settings"]["steps"] == 2
    assert result["settings"]["strategy"] == "darts-first-order" and result["devices"]["kind"]
    assert {"jax", "jaxlib", "python"} <= set(result["versions"])
    assert result["starts"] == {} and result["seeds"] is None and "skipped" in result["peers"]["torch"]


def test_table_and_picture_of_a_full_record(result):
    """As if peers, starts and seeds had been measured."""
    alone = {"state_bytes": 10, "working_bytes": 20, "first_step_seconds": 3.0, "import_seconds": 1.0}
    peer = {"step_seconds": 2.0, "first_step_seconds": 2.0, "images_per_second": 1.0, "alone": alone}
    start = {"trace_seconds": 1.0, "lower_seconds": 1.0, "compile_seconds": 1.0, "total_seconds": 4.0}
    seeds = {"count": 2, "axis": "mapped", "search_seconds": 0.1}
    peers = {"eager": peer, "compiled": peer, "other": {"skipped": "no compiler"}}
    full = {**result, "peers": peers, "starts": {"cold": start, "second": start}, "seeds": seeds}
    assert len(show.table(full).columns) == 4
    assert [axes.get_title() for axes in show.picture(full).axes][2] == "seconds to the first step"
    assert show.memory(peer) == {"state": 10, "temporaries": 20}


@pytest.mark.parametrize(
    "args, text",
    [
        (["--strategy", "dartz"], "no strategy is called 'dartz'; choose one of darts,"),
        (["--space", "mobile"], "no space is called 'mobile'; choose one of darts, nas_bench_201"),
        (["--precision", "float8"], "no precision is called 'float8'"),
        (["--peer-compiled", "all"], "--peer-compiled is 'all'"),
    ],
)
def test_nonsense_is_answered_in_one_sentence(args, text, answer, tmp_path):
    status, _, told = answer(partial(command.run, measured), *args, "--out", tmp_path / "out")
    assert status == 1 and text in told and "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured():
    done = python("-m", "benchmarks", "--out", Path(__file__) / "out", cwd=ROOT, timeout=60)
    assert done.returncode == 1 and "Not a directory" in done.stderr and "Traceback" not in done.stderr


def test_steps_are_made_in_turn():
    order = []
    seconds = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3 and {name: len(s) for name, s in seconds.items()} == {"a": 3, "b": 3}


def test_temporaries_are_seen():
    used = working(lambda: bytearray(b"x" * 10**8))
    if used is None:
        pytest.skip("this system does not tell a process's memory")
    assert 0.9e8 < used < 3e8


def test_a_row_that_is_impossible_is_left_out(monkeypatch):
    """With its reason; the others take part."""

    def ready(case):
        if case.strategy == "dr-nas":
            raise ValueError("choose a divisor of 16")
        return f"steps of {case.strategy}", {"compile_seconds": 3.0}

    monkeypatch.setattr(side_by_side, "ready", ready)
    turns, found, left_out = side_by_side.all_ready(("gdas", "dr-nas", "darts", "PyTorch gdas"), Case())
    assert turns == {"gdas": "steps of gdas", "darts": "steps of darts"} and found["darts"] == {"compile_seconds": 3.0}
    assert left_out["dr-nas"] == "choose a divisor of 16" and "not gdas on darts" in left_out["PyTorch gdas"]


def test_every_row_is_measured_once_and_beside_the_base():
    names = ["a", rows.BASE, *"bcdefgh"]
    first, second = rows.groups(names)
    assert first == [rows.BASE, *"abcdef"] and second == [rows.BASE, *"gh"]
    assert list(rows.groups([rows.BASE])) == [[rows.BASE]]
    told = rows.beside_base({rows.BASE: {"all_seconds": [1.0, 4.0, 2.0]}, "a": {"all_seconds": [2.0, 4.0, 9.0]}})
    assert told["a"]["over_base"] == 2.0 and told[rows.BASE]["over_base"] == 1.0


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (["--rows", "gdas,nothing"], "no strategy is called 'nothing'; choose one of darts, "),
        (["--out", f"{__file__}/rows.json"], "File exists"),
    ],
)
def test_rows_refuses_in_one_sentence(asked, text, monkeypatch, capsys):
    monkeypatch.setattr(rows, "machine", pytest.fail)  # before anything is measured
    monkeypatch.setattr(sys, "argv", ["rows", *asked])
    with pytest.raises(SystemExit) as end:
        command.run(rows.main)
    told = capsys.readouterr().err
    assert end.value.code == 1 and told.startswith("benchmarks: ") and text in told


def test_rows_say_why_the_base_is_impossible(monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "machine", Case)  # of no interest here
    monkeypatch.setattr(rows, "ask", lambda *_: {"rows": {}, "left_out": {rows.BASE: "8 cells are too many"}})
    with pytest.raises(ValueError, match="8 cells are too many"):
        rows.main(rows="gdas", channels=4, out=tmp_path / "rows.json")
