"""The device command: what it plans, what it keeps whatever is killed, and the tables that it fills."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import python

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.device import __main__ as command
from benchmarks.device import clock, layouts, plan, store, table, turns
from benchmarks.device.plan import PAPER, TINY, Item
from benchmarks.device.speaker import without

HERE = Path(__file__).parent
ROOT = HERE.parent
WAIT = 60  # seconds; a loaded machine starts processes slowly


def item(name, *acts, rows=(), planned=1.0, limit=WAIT, **by_row):
    return Item(name, "device_work", {"do": acts, **by_row}, planned, limit, rows)


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Items -> results, as they are on disk."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))

    def run(*todo, seconds=10 * WAIT, together=2, rehearsal=True):
        results, told = store.opened(tmp_path, rehearsal), []
        programs = tmp_path / "programs" if rehearsal else None
        stamp = {"commit": "abc", "date": "2030-01-02 03:04 UTC"}
        this = turns.Run(tmp_path, time.monotonic() + seconds, together, programs, todo, stamp, told.append)
        turns.measure(this, plan.left_to_do(todo, results["items"], ()), results)
        found = store.read(tmp_path)["items"]
        return found, told

    return run


def test_most_valuable_first():
    groups = list(dict.fromkeys(plan.group(one.name) for one in plan.items(PAPER)))
    assert groups == ["parity", "step", "eager", "layout", "depthwise", "seeds", "precision", "epoch", "compiled"]
    names = [one.name for one in plan.items(PAPER)]
    assert len(set(names)) == len(names) and {"step-second-order", "seeds-16-mapped", "precision-bfloat16"} <= set(
        names
    )
    assert {f"layout-{name}" for name in layouts.LAYOUTS} - set(names) == {"layout-default"}
    assert all(one.limit > one.planned for one in plan.items(PAPER))
    case = next(one.given["case"] for one in plan.items(PAPER) if one.name == "step-gdas")
    assert (case["channels"], case["depth"], case["batch"]) == (16, 8, 64)
    assert [plan.group(one.name) for one in plan.items(TINY)][:2] == ["parity", "parity"]


def test_fixtures_are_there():
    assert all((HERE / "fixtures" / name).is_file() for name in (*PAPER.fixtures, *TINY.fixtures))
    programs = {path.name for path in (HERE / "fixtures").glob("*.npz")}
    assert programs == set(PAPER.fixtures)


def test_items_and_groups_are_chosen_by_name():
    every = plan.items(PAPER)
    assert [one.name for one in plan.chosen(every, "step-gdas, parity")] == [
        "parity-float64",
        "parity-float32",
        "step-gdas",
    ]
    with pytest.raises(ValueError, match="no item is called 'step-gads'; choose step-gdas"):
        plan.chosen(every, "step-gads")


def test_the_budget():
    slow = item("step-slow", planned=100.0)
    assert plan.fits(slow, 100, 1.0) and not plan.fits(slow, 99, 1.0) and not plan.fits(slow, 150, 2.0)
    others = [item("a", planned=10.0), item("b", planned=10.0), item("c", planned=10.0)]
    told = lambda seconds, status="measured": {"status": status, "seconds": seconds, "rows": {}}
    assert plan.pace(others, {}) == 1.0
    assert plan.pace(others, {"a": told(20.0), "b": told(30.0), "c": told(1.0, "aborted")}) == 2.5
    assert plan.pace(others, {"a": told(1000.0)}) == 4.0 and plan.pace(others, {"gone": told(1.0)}) == 1.0


def test_done_is_done_unless_asked_for_again():
    todo = [item(name) for name in "abcd"]
    found = {"a": {"status": "measured"}, "b": {"status": "aborted"}, "c": {"status": "cut"}}
    assert [one.name for one in plan.left_to_do(todo, found, ())] == ["c", "d"]
    assert [one.name for one in plan.left_to_do(todo, found, {"b"})] == ["b", "c", "d"]


def test_what_cannot_be_measured_here_is_told(monkeypatch):
    by_name = {one.name: one for one in plan.items(PAPER)}
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None)
    assert plan.reason_against(by_name["eager-first-order"], None) == "PyTorch is not installed"
    assert "benchmarks.pack_images" in plan.reason_against(by_name["epoch-cifar10"], None)
    assert plan.reason_against(by_name["epoch-cifar10"], "file") is None
    assert plan.reason_against(by_name["step-gdas"], None) is None


def test_rows_are_kept_with_their_stamp(measure):
    found, told = measure(item("a"), item("b", rows=("x", "y")))
    assert found["a"]["status"] == found["b"]["status"] == "measured"
    assert set(found["b"]["rows"]) == {"x", "y"} and found["a"]["commit"] == "abc" and found["a"]["seconds"] > 0
    assert any(line.startswith("a: measured") for line in told)


def test_a_process_that_aborts_is_a_result(measure, tmp_path):
    found, told = measure(item("bad", ("kill", "Check failed: 256 vs. 32")), item("good"), together=1)
    assert found["bad"]["status"] == "aborted" and found["bad"]["why"] == "SIGABRT"
    assert "Check failed: 256 vs. 32" in found["bad"]["said"] and found["good"]["status"] == "measured"
    assert "Check failed: 256 vs. 32" in (tmp_path / "log.txt").read_text()
    assert "bad: aborted in" in " ".join(told)


def test_behind_a_row_that_aborts_another_process_goes_on(measure):
    found, _ = measure(item("parity", rows=("x", "y", "z"), y=[("kill", "no such tiling")]))
    rows = found["parity"]["rows"]
    assert list(rows) == ["x", "y", "z"] and rows["y"]["aborted"] == "SIGABRT" and "no such tiling" in rows["y"]["said"]
    assert rows["x"]["pid"] != rows["z"]["pid"] and found["parity"]["status"] == "measured"


@pytest.mark.parametrize(
    ("act", "status", "why"),
    [(("fail", "no such layout"), "failed", "ValueError: no such layout"), (("leave", 3), "failed", "exit status 3")],
)
def test_other_ends(measure, act, status, why):
    found, _ = measure(item("a", act))
    assert (found["a"]["status"], found["a"]["why"]) == (status, why)


def test_an_item_has_its_limit(measure):
    found, _ = measure(item("a", ("sleep", 1000), limit=1.0), item("b"))
    assert found["a"]["status"] == "timed out" and found["b"]["status"] == "measured"


def test_what_the_time_cuts_is_measured_by_the_next_run(measure):
    slow = item("a", rows=("x", "y"), planned=0.1, y=[("sleep", 4)])
    large = item("b", planned=1e6)
    found, told = measure(slow, large, seconds=3)
    assert found["a"]["status"] == "cut" and "b" not in found
    assert any(line.startswith("b: not started; it needs about 1000000 s") for line in told)
    first = found["a"]["rows"].get("x")
    found, _ = measure(slow)
    assert found["a"]["status"] == "measured" and set(found["a"]["rows"]) == {"x", "y"}
    assert first in (None, found["a"]["rows"]["x"])


def test_one_is_timed_at_a_time_and_pauses_do_not_count(measure):
    found, _ = measure(*(item(name, ("turn", 0.5)) for name in "abc"), together=3)
    times = sorted((one["rows"]["times"] for one in found.values()), key=lambda row: row["got"])
    assert all(before["ended"] <= after["got"] for before, after in pairwise(times))
    assert all(0.45 < row["prepared_seconds"] <= row["got"] - row["began"] for row in times)
    assert without((0.0, 10.0), ((2.0, 3.0), (9.0, 12.0), (20.0, 30.0))) == 8.0


def test_a_cpu_is_no_accelerator(measure):
    facts = {"platform": "cpu", "device": "cpu"}
    with pytest.raises(ValueError, match="JAX finds no accelerator here"):
        measure(item("a", ("facts", facts), ("sleep", 1000)), rehearsal=False)


def test_results_of_one_device(measure, tmp_path):
    measure(item("a", ("facts", {"platform": "gpu", "device": "one"})), rehearsal=False)
    assert store.read(tmp_path)["machine"]["device"] == "one"
    with pytest.raises(ValueError, match="results of one, and this device is another"):
        measure(item("b", ("facts", {"platform": "gpu", "device": "another"})), rehearsal=False)


RUN = """
import time, sys
from pathlib import Path
from benchmarks.device import store, turns
from benchmarks.device.plan import Item
out = Path(sys.argv[1])
mark = str(out / "mark")  # b asks for its turn, which stops a, when a has told its first row
slow = [Item("a", "device_work", {"y": [["mark", mark], ["sleep", 1000]]}, 1.0, 1000.0, ("x", "y")),
        Item("b", "device_work", {"do": [["after", mark], ["turn", 0.0], ["sleep", 1000]]}, 1.0, 1000.0)]
run = turns.Run(out, time.monotonic() + 1000, 2, None, slow, {}, print)
turns.measure(run, slow, store.opened(out, True))
"""


def test_killed_in_the_middle(measure, tmp_path):
    """The row before is on disk, nothing that was started lives on, and the next run begins behind it."""
    env = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], env=env, stdout=subprocess.DEVNULL)
    rows = lambda name: ((store.read(tmp_path) or {"items": {}})["items"].get(name) or {"rows": {}})["rows"]
    until(lambda: "x" in rows("a") and "times" in rows("b"))  # b has its turn, a is stopped
    before = rows("a")["x"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not alive(before["pid"]))
    assert store.read(tmp_path)["items"]["a"]["status"] == "begun"
    found, _ = measure(item("a", rows=("x", "y")))
    assert found["a"]["status"] == "measured" and found["a"]["rows"]["x"] == before
    assert found["a"]["rows"]["y"]["pid"] != before["pid"]


def until(true):
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < WAIT
        time.sleep(0.05)


def alive(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_command_loads_neither_jax_nor_numpy():
    code = "import sys, benchmarks.device.__main__; print({'jax', 'torch', 'numpy', 'rich'} & set(sys.modules))"
    done = python("-c", code, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--out", __file__], "is no folder that can be written to"),
        (["--out", "/proc/here"], "is no folder that can be written to"),
        ([], "--out is missing"),
        (["--out", "OUT", "--only", "steps"], "no item is called 'steps'; choose step"),
        (["--out", "OUT", "--again", "layout-faned"], "choose layout-fanned"),
        (["--out", "OUT", "--minutes", "0"], "--minutes is 0"),
        (["--out", "OUT", "--together", "0"], "--together is 0"),
        (["--out", "OUT", "--images", "nowhere"], "--images nowhere is no file"),
        (["--table", "OUT"], "no results.json is there"),
    ],
)
def test_nonsense_is_answered_in_one_sentence(args, text, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main([str(out) if arg == "OUT" else arg for arg in args]) == 2
    told = capsys.readouterr().err
    assert told.startswith("device: ") and text in told and not out.exists()


def test_a_folder_with_something_else(tmp_path, capsys):
    (tmp_path / "results.json").write_text('{"accuracy": 1}')
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "is not a file of results of this command" in capsys.readouterr().err
    store.write(tmp_path, {"format": 1, "rehearsal": True, "machine": {}, "items": {}})
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "holds a rehearsal, this run makes measurements" in capsys.readouterr().err
    assert command.main(["--table", str(tmp_path)]) == 2
    assert "numbers of a rehearsal" in capsys.readouterr().err


def test_one_run_at_a_time(tmp_path):
    with store.held(tmp_path), pytest.raises(ValueError, match="written by another run"), store.held(tmp_path):
        pass


def test_the_list_says_what_is_known(tmp_path, capsys):
    results = store.with_item(store.opened(tmp_path, False), "step-gdas", {"status": "aborted", "rows": {}})
    store.write(tmp_path, results)
    assert command.main(["--list", "--out", str(tmp_path), "--only", "step"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert len(lines) == 4 and lines["step-gdas"].endswith("aborted") and "about 90 s" in lines["step-first-order"]


def test_the_clock():
    steps, waits = [], []
    step = lambda: steps.append(time.sleep(0.01)) or len(steps)
    told = clock.clock(step, waits.append, 0.05, 3)
    count = told["steps_in_a_round"]
    assert 1 <= count <= 5 and len(steps) == 2 + 3 * count == waits[-1] and len(waits) == 5
    assert len(told["rounds"]) == 3 and 0.01 <= told["step_seconds"] <= max(told["rounds"])
    assert clock.steps_of_a_round(0.3, 1.0) == 3 and clock.steps_of_a_round(5.0, 1.0) == 1


def test_what_float32_may_miss():
    from parity_lines import Line

    from benchmarks.device import parity

    lines = [Line("logits", 2e-6, 1e-9), Line("12 weight gradients (worst: b)", 0.03, 1e-9), Line("names", 1.0, 0.0)]
    assert parity.verdict(lines, "float32") == {
        "compared": 3,
        "agree": 2,
        "misses": [{"name": "names", "error": 1.0, "allowed": 0.0}],
    }
    assert parity.verdict(lines, "float64")["agree"] == 0
    assert parity.verdict([Line("logits", float("nan"), 1e-9)], "float32")["agree"] == 0


def measured():
    """Results as a device would leave them; the numbers are made up."""
    clocked = {"step_seconds": 0.1, "steps_per_second": 10.0, "peak_bytes": 3e9}
    ours = {**clocked, "trace_seconds": 4.0, "lower_seconds": 2.0, "compile_seconds": 60.0, "temporary_bytes": 2e9}
    stamp = {"commit": "abc", "date": "2030-01-02 03:04 UTC", "beside": 3, "status": "measured"}
    parity = {"x": {"compared": 5, "agree": 4, "misses": [{}]}, "y": {"aborted": "SIGABRT", "said": "|"}}
    slow = {**clocked, "step_seconds": 0.5, "steps_per_second": 2.0}
    epoch = {"steps": 100, "steps_of_an_epoch": 391, "whole": False, "epoch_seconds": 39.1}
    items = {
        "parity-float64": {**stamp, "rows": parity},
        "step-first-order": {**stamp, "rows": {"step": ours}},
        "step-gdas": {**stamp, "status": "aborted", "why": "SIGABRT", "rows": {}},
        "eager-first-order": {**stamp, "rows": {"contiguous": slow, "channels_last": {**slow, "step_seconds": 0.6}}},
        "precision-tf32": {**stamp, "rows": {"step": ours}},
        "epoch-cifar10": {**stamp, "rows": {"epoch": {**epoch, "search_seconds": 1955.0, "search_epochs": 50}}},
    }
    machine = {"device": "Some GPU", "platform": "gpu", "driver": "driver 1", "versions": {"jax": "1", "jaxlib": "2"}}
    return {"format": 1, "rehearsal": False, "machine": machine, "items": items}


def test_the_tables():
    text = "\n".join(table.lines(measured()))
    assert "Measured on Some GPU (driver 1); jax 1, jaxlib 2, commit abc; 2030-01-02." in text
    assert "| float64 | 1 of 12 (y: SIGABRT) | 5 | 4 |" in text
    assert "| first order | 10 | 100 | 66 (3 beside) | 2,000 | 3,000 | 5 |" in text
    assert (
        "| GDAS | aborted: SIGABRT |" in text and "| PyTorch, eager, first order | 2 | 500 |  |  | 3,000 |  |" in text
    )
    assert "| first order, tf32 | 10 | 100 | 66 (3 beside) | 2,000 | 3,000 |  |" in text
    assert "| CIFAR-10, first order, from JPEG bytes | 100 of 391 | 39.1 | 32.6 (50 epochs) |" in text
    assert text.count(table.NOTHING) == len(plan.items(PAPER)) - 6
    assert {line.count("|") for line in table.lines(measured()) if line.startswith("|")} == {5, 8}


def test_nothing_is_invented():
    text = "\n".join(table.lines(None))
    assert text.count(table.NOTHING) == len(plan.items(PAPER)) and "Nothing has been measured on a device yet" in text


def test_a_page_is_filled_again_and_again(tmp_path, capsys):
    store.write(tmp_path, measured())
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nbehind\n")
    for _ in range(2):
        assert command.main(["--table", str(tmp_path), "--page", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("\nbehind\n") and "old" not in text
        assert text.count("Some GPU") == 1 and capsys.readouterr().out.strip() in text
    page.write_text("no marks")
    assert command.main(["--table", str(tmp_path), "--page", str(page)]) == 2
    assert "needs the line <!-- device: begin --> once" in capsys.readouterr().err
    assert page.read_text() == "no marks"


def test_the_page_has_every_row():
    """Those of the items that there are, measured or not."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert table.filled(page, [], Path("performance.md"))
    first = [line.split("|")[1] for line in table.lines(None) if line.startswith("|")]
    assert [
        line.split("|")[1] for line in page.split(table.BEGIN)[1].split(table.END)[0].splitlines() if line[:1] == "|"
    ] == first


def test_an_epoch_that_was_cut_is_projected():
    from benchmarks.device.epoch import projected

    told = projected({"stretch_seconds": 10.0, "steps": 100, "steps_of_an_epoch": 400}, 50)
    assert told == {
        "epoch_seconds": 40.0,
        "whole": False,
        "steps_per_second": 10.0,
        "search_epochs": 50,
        "search_seconds": 2000.0,
    }


@pytest.mark.slow
def test_the_rehearsal(tmp_path):
    """Every item on the CPU, at tiny sizes."""
    done = python("-m", "benchmarks.device", "--rehearse", "--out", tmp_path, "--together", 2, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    every = [one for one in plan.items(TINY) if plan.reason_against(one, None) is None]
    assert [one.name for one in every if results["items"][one.name]["status"] != "measured"] == []
    steps = [told["rows"]["step"] for told in results["items"].values() if "step" in told["rows"]]
    assert all(np.isfinite(row["first_train_loss"]) and row["steps_per_second"] > 0 for row in steps)
    alike = [results["items"][name]["rows"]["step"] for name in ("step-first-order", "layout-fanned-kept")]
    np.testing.assert_allclose(*([row["first_train_loss"] for row in alike]), rtol=1e-5)
    assert results["items"]["epoch-cifar10"]["rows"]["epoch"]["whole"]
    again = python("-m", "benchmarks.device", "--rehearse", "--out", tmp_path, cwd=ROOT)
    assert again.returncode == 0 and "step-gdas: measured before" in again.stdout and "started" not in again.stdout
