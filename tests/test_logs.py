"""What a run tells while it runs: to TensorBoard, and on one screen of the terminal."""

import io
import re
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

from jaxnas import live, logs, progress, terminal
from jaxnas.spaces.darts import darts

SPACE = darts(channels=2, layers=3, classes=4, image=(8, 8, 1))
FLAT = np.full((14, 8), 0.125)
SHARP = np.eye(14, 8) * 0.75 + 0.03125


def record(epoch, **more):
    told = {"epoch": epoch, "stage": 0, "step": 9, "train_loss": 1 / epoch, "valid_loss": 2 / epoch}
    told |= {"train_accuracy": 0.5, "valid_accuracy": 0.25, "alpha_entropy": 1.5, "skips": 3}
    return told | {"seconds": 2.0, "images_per_second": 100.0, "genotype": {}, "stage_ended": False, **more}


def events(folder):
    """{tag: {step: value}} as TensorBoard reads a folder: file by file, and what was purged is gone."""
    event = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for path in sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            one, data = event.Event.FromString(data[12 : 12 + size]), data[size + 16 :]
            if one.session_log.status == event.SessionLog.START:
                found = {tag: {s: v for s, v in of.items() if s < one.step} for tag, of in found.items()}
            for value in one.summary.value:
                found.setdefault(value.tag, {})[one.step] = value
    return found


def test_tensorboard_holds_curves_and_alpha_and_a_resumed_run_goes_on(tmp_path):
    pytest.importorskip("tensorboardX")
    for epochs in ((1, 2, 3), (3, 4)):  # the third was lost with its state, and is run again
        with logs.tensorboard(tmp_path / "logs") as observe:
            for epoch in epochs:
                observe(record(epoch, measured={"curvature": 0.1 * epoch}), {"normal": SHARP, "reduce": FLAT})
    found = events(tmp_path / "logs")
    assert {step: value.simple_value for step, value in found["loss/train"].items()} == pytest.approx(
        {1: 1, 2: 1 / 2, 3: 1 / 3, 4: 1 / 4}
    )
    scalars = {"loss/train", "loss/valid", "accuracy/train", "accuracy/valid", "alpha/entropy", "alpha/skips"}
    scalars |= {"measured/curvature", "run/seconds", "run/images_per_second"}
    cells = {"alpha/normal", "alpha/reduce"}
    assert set(found) == scalars | cells | {f"heat_map/{cell}" for cell in ("normal", "reduce")}
    assert found["alpha/normal"][4].histo.num == 14 * 8
    picture = found["heat_map/normal"][4].image
    assert (picture.height, picture.width) == (16 * 14, 16 * 8)


def test_a_heat_map_is_grey_from_0_to_1():
    found = logs.heat_map([[0.0, 1.0], [0.5, 2.0]])
    assert found.shape == (32, 32) and found.dtype == np.uint8
    assert found[::16, ::16].tolist() == [[0, 255], [128, 255]] and (found[:16, :16] == 0).all()


def test_nothing_is_written_where_no_epoch_is_told(tmp_path):
    pytest.importorskip("tensorboardX")
    with logs.tensorboard(tmp_path / "logs"):
        pass
    assert not (tmp_path / "logs").exists()


def test_without_tensorboardx_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxnas\[tensorboard\]'"), logs.tensorboard(tmp_path):
        pass


def run_the_page(service):
    """The lines of `docs/watching.md` for a service, around a run that tells two epochs."""
    page = (Path(__file__).parent.parent / "docs" / "watching.md").read_text(encoding="utf-8")
    block = re.search(rf"```\n(import {service} .*?)```", page, re.S)[1]

    def run(*given, observe, **options):
        for epoch in (1, 2):
            observe(record(epoch, measured={"curvature": 0.1}), {"normal": FLAT})

    given = dict.fromkeys(("stages", "space", "parts"))
    exec(
        compile(block, service, "exec"), {"jn": SimpleNamespace(run=run, logs=logs), "jax": jax, "options": {}, **given}
    )


def test_weights_and_biases_gets_the_numbers(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="pip install wandb; nothing here needs it")
    for name, value in {"MODE": "offline", "SILENT": "true", "DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run_the_page("wandb")
    (written,) = tmp_path.glob("wandb/offline-run-*-watched-0/run-watched-0.wandb")
    for name in logs.scalars(record(1, measured={"curvature": 0.1})):
        assert name.encode() in written.read_bytes()


def test_mlflow_gets_the_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow; nothing here needs it")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps runs in a file by it; mlflow-skinny comes without")
    monkeypatch.chdir(tmp_path)
    run_the_page("mlflow")
    found = mlflow.MlflowClient().get_metric_history(mlflow.last_active_run().info.run_id, "loss/valid")
    assert [(one.step, one.value) for one in found] == [(1, 2.0), (2, 1.0)]
    assert set(mlflow.last_active_run().data.metrics) == set(logs.scalars(record(1, measured={"curvature": 0.1})))


def watched(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, height=60)
    with live.shown(console, 50, 10, ("curvature",), space=SPACE) as show:
        show.epoch(2)(25, {"train": {"loss": 1.25}, "valid": {"loss": 1.5}})
        show.row(record(2, measured={"curvature": 0.125}), {"normal": SHARP, "reduce": FLAT})
    return out.getvalue()


def test_the_screen_shows_numbers_and_the_strongest_operation_of_each_edge():
    text = watched(terminal=True).rpartition("epoch 2/10")[2]  # as it was drawn last
    assert "step 25/50: train loss 1.250, valid loss 1.500" in text
    for one in ("alpha entropy", "1.5000", "curvature", "0.125", "25.0%", "normal", "reduce"):
        assert one in text
    lines = [line for line in text.splitlines() if "0 → 2" in line]
    assert len(lines) == 1 and lines[0].count("none") == 2 and "0.78" in lines[0] and "0.12" in lines[0]
    assert "max_pool_3x3" in next(line for line in text.splitlines() if "1 → 2" in line)


def test_outside_a_terminal_it_is_rows():
    text = watched(terminal=False)
    assert "\x1b" not in text and "→" not in text and "0.5000" in text


WAITED = {  # what a person looks at -> (console) -> the context in which it is shown
    "clock": lambda console: terminal.clock(console, "drawing"),
    "compiling": lambda console: progress.compiling(console, "the step"),
    "counting": lambda console: progress.counting(console, "choosing"),
    "search": lambda console: progress.shown(console, 50, 10),
    "training": lambda console: progress.shown_training(console, 50, 10),
    "live": lambda console: live.shown(console, 50, 10, space=SPACE),
}


@pytest.mark.parametrize("shown", WAITED.values(), ids=WAITED)
def test_something_moves_while_nothing_is_told(shown):
    """Before the first step is made, and again within three seconds."""
    out = io.StringIO()
    visible = lambda: {line.strip() for line in re.split(r"\x1b\[[\d;?]*[A-Za-z]|[\r\n]", out.getvalue())} - {""}
    with shown(Console(file=out, force_terminal=True, width=120)):
        first, until = visible(), time.monotonic() + 3
        assert first
        while not visible() - first and time.monotonic() < until:
            time.sleep(0.05)
        assert visible() - first


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"force_terminal": True, "quiet": True}], ids=str)
def test_a_clock_is_for_a_person(options):
    out = io.StringIO()
    with terminal.clock(Console(file=out, **options), "drawing"):
        pass
    assert not out.getvalue()
    with terminal.waiting(Console(file=out, **options), "reading [bold]x"):
        pass
    assert out.getvalue() == ("" if options.get("quiet") else "reading [bold]x\n")
