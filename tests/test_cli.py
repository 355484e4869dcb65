"""The command line as a person meets it: what helps, what it prints, and what it says to nonsense."""

import json
import re
import signal

import numpy as np
import pytest
import typer
from conftest import python
from published import DARTS_V2
from typer.testing import CliRunner

from jaxnas import cli, planning, retraining, runner
from jaxnas.catalogue import KINDS
from jaxnas.cli import app
from jaxnas.cli_help import EXAMPLES, EXIT_CODES
from jaxnas.interruption import Interrupted
from jaxnas.names import PUBLISHED, RECIPES, SPACES, STRATEGIES
from jaxnas.strategies.mixing import broadcast


def jaxnas(*args, **options):
    return python("-m", "jaxnas", *args, **options)


def invoke(*args, **env):
    return CliRunner().invoke(app, [*map(str, args)], prog_name="jaxnas", env={"COLUMNS": "200", **env})


@pytest.mark.parametrize("command", ["", *EXAMPLES])
def test_help(command):
    shown = invoke(*command.split(), "--help")
    assert shown.exit_code == 0 and "Usage" in shown.output
    for line in EXAMPLES.get(command, ()) or [f"{code}: {told}" for code, told in EXIT_CODES.items()]:
        assert line in shown.output
    if command == "search":
        for name in (*STRATEGIES, *SPACES, "--dataset", "--data-dir", "--epochs", "--seed", "--out", "--smoke"):
            assert name in shown.output


def test_every_command_has_examples_and_they_are_understood():
    group = typer.main.get_command(app)
    assert set(EXAMPLES) == set(group.commands)
    for command, lines in EXAMPLES.items():
        for line in lines:
            program, name, *rest = line.split()
            assert (program, name) == ("jaxnas", command)
            group.commands[name].make_context(name, rest)  # an unknown option would raise


@pytest.mark.parametrize(
    "args, told",
    [
        (["serch"], "Did you mean 'search'?"),
        (["search", "--stratgy", "darts"], "--strategy"),
        (["search", "--epochs", "many"], "--epochs"),
        (["export"], "Missing argument"),
    ],
)
def test_a_command_that_is_not_understood(args, told):
    done = invoke(*args)
    assert done.exit_code == 2 and told in done.output and not done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_list(kind, tmp_path):
    rows = json.loads(invoke("list", kind, "--json", "--data-dir", tmp_path).stdout)[kind]
    table = invoke("list", kind, "--data-dir", tmp_path)
    assert table.exit_code == 0 and all(row["name"] in table.output for row in rows)
    wanted = {"strategies": STRATEGIES, "spaces": SPACES, "genotypes": PUBLISHED, "recipes": RECIPES}
    assert [row["name"] for row in rows] == list(wanted.get(kind, ["digits"]))
    assert kind != "strategies" or all(row["what"] and row["paper"] for row in rows)


def test_list_finds_what_is_prepared(tmp_path):
    place = tmp_path / "small_set" / "1.0.0"
    place.mkdir(parents=True)
    splits = [{"name": "train", "shardLengths": ["40", "2"]}, {"name": "validation", "shardLengths": ["7"]}]
    (place / "dataset_info.json").write_text(json.dumps({"splits": splits}))
    image, label = {"image": {"shape": {"dimensions": ["8", "9", "1"]}}}, {"classLabel": {"numClasses": "3"}}
    (place / "features.json").write_text(json.dumps({"featuresDict": {"features": {"image": image, "label": label}}}))
    (tmp_path / "text_set" / "1.0.0").mkdir(parents=True)
    (tmp_path / "text_set" / "1.0.0" / "dataset_info.json").write_text('{"splits": []}')
    _, found = json.loads(invoke("list", "datasets", "--json", "--data-dir", tmp_path).stdout)["datasets"]
    sizes = {"train": 42, "test": 7, "image": [8, 9, 1], "classes": 3}
    assert found == {"name": "small_set", **sizes, "place": str(place)}


@pytest.mark.parametrize(
    "words, wanted",
    [
        ("search --strategy p", ["p-darts", "pc-darts", "pc-darts-imagenet"]),
        ("search --space s", ["s1", "s2", "s3", "s4"]),
        ("search --dataset dig", ["digits"]),
        ("draw DARTS", ["DARTS_V1", "DARTS_V2"]),
        ("draw run", ["runs/"]),
        ("evaluate --recipe im", ["imagenet", "imagenet-linear"]),
        ("list s", ["strategies", "spaces"]),
    ],
)
def test_the_shell_completes(words, wanted, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = {"COMP_WORDS": f"jaxnas {words}", "COMP_CWORD": str(len(words.split()))}
    assert invoke(_JAXNAS_COMPLETE="complete_bash", **asked).stdout.split() == wanted


def left_by(planned, run, *, out, console, **options):
    """Stands for a search: says something, and leaves a result."""
    console.print("an epoch")
    out.mkdir(parents=True)
    (out / "result.json").write_text('{"genotype": {"space": "darts"}}')


def test_json_is_one_object_on_stdout_and_quiet_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "carry_out", left_by)
    done = invoke("search", "--json", "--out", tmp_path / "a")
    assert json.loads(done.stdout) == {"folder": str(tmp_path / "a"), "genotype": {"space": "darts"}}
    assert "an epoch" in done.stderr and "719 images" in done.stderr
    done = invoke("search", "--quiet", "--out", tmp_path / "b")
    assert done.exit_code == 0 and not done.output
    done = invoke("search", "--json", "--quiet", "--out", tmp_path / "c")
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "c") and not done.stderr
    assert "an epoch" in invoke("search", "--out", tmp_path / "d").stdout


def test_evaluate_speaks_json_too(tmp_path, monkeypatch):
    monkeypatch.setattr(retraining, "fit", lambda *args, **options: left_by(*args[:2], **options))
    done = invoke("evaluate", "DARTS_V2", "--smoke", "--json", "--out", tmp_path / "a")
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "a") and "an epoch" in done.stderr
    assert not invoke("evaluate", "DARTS_V2", "--smoke", "--quiet", "--out", tmp_path / "b").output


def test_info_as_json():
    small = ("DARTS_V2", "--channels", 4, "--depth", 3)
    found = json.loads(invoke("info", *small, "--json").stdout)
    whole, name = found["all"]["parameters"], found["space"]["name"]
    assert name == "darts" and found["space"]["layers"] == 3 and found["versions"]["jax"]
    assert sum(part["parameters"] for part in found["parts"].values()) == whole
    told = f"{whole} parameters, {found['all']['multiply_adds']} multiply-adds\n"
    assert invoke("info", *small, "--quiet").stdout == told


def test_no_colours_where_they_are_not_wanted(tmp_path):
    """None where the output is no terminal; with NO_COLOR bold is kept, and colours are not."""
    coloured = r"\x1b\[[\d;]*3\d"
    plain = jaxnas("draw", "DARTS_V2", "--out", tmp_path / "a.txt")
    assert plain.returncode == 1 and plain.stderr.startswith("jaxnas: cannot write") and "\x1b" not in plain.stderr
    assert "Traceback" not in plain.stderr
    assert re.search(coloured, invoke("search", "--help", FORCE_COLOR="1").output)
    assert not re.search(coloured, invoke("search", "--help", FORCE_COLOR="1", NO_COLOR="1").output)
    assert "\x1b" not in invoke("list").output


@pytest.mark.parametrize(
    "strategy, told",
    [
        ("darts", "719 images move the weights, 719 alpha;"),
        ("random-sharing", "719 images move the weights, 719 score genotypes;"),
        ("snas", "719 images move the weights and alpha, 719 do nothing"),
    ],
)
def test_what_the_halves_do_is_told(strategy, told, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "run", lambda *args, **options: None)
    done = CliRunner().invoke(app, ["search", "--strategy", strategy, "--out", str(tmp_path)], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and told in done.output


@pytest.mark.smoke
def test_a_search_draw_and_info(answer, tmp_path):
    """The smallest search: S2 of R-DARTS, first order, a few steps."""
    smallest = ("--smoke", "--strategy", "darts-first-order", "--space", "s2", "--channels", 2, "--depth", 3)
    done = jaxnas("search", *smallest, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "digits: 8 images move the weights, 8 alpha" in done.stdout and "cells.png" in done.stdout
    chosen = json.loads((tmp_path / "run" / "genotype.json").read_text())
    ops = {edge[0] for edge in chosen["cells"]["normal"]}
    assert chosen["space"] == "s2" and ops <= {"skip_connect", "sep_conv_3x3"}
    status, _, told = answer(cli.main, "draw", tmp_path / "run", "--out", tmp_path / "pictures" / "cell.svg")
    assert status == 0, told
    assert "<svg" in (tmp_path / "pictures" / "cell.svg").read_text()
    status, _, told = answer(cli.main, "info", tmp_path / "run")
    assert status == 0, told
    status, _, told = answer(cli.main, "search", *smallest, "--out", tmp_path / "run")
    assert status == 1 and "is in use" in told and "Traceback" not in told


def test_info_counts_what_the_papers_count():
    shown = CliRunner().invoke(app, ["info", DARTS_V2], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "3,349,342" in shown.output and "528,359,040" in shown.output
    assert shown.output == CliRunner().invoke(app, ["info", "DARTS_V2"], env={"COLUMNS": "200"}).output
    shown = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"})
    assert "1,930,618" in shown.output and "300,255,744" in shown.output
    shown = CliRunner().invoke(app, ["info", "--space", "nas_bench_201"], env={"COLUMNS": "200"})
    assert "1,692,826" in shown.output and "243,712,640" in shown.output


@pytest.fixture(scope="module")
def stray_labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    np.savez(path, image=np.zeros((40, 8, 8, 1), np.uint8), label=np.full(40, -3))
    return path


@pytest.mark.parametrize(
    "args, text",
    [
        (["search", "--strategy", "dartz"], "no strategy is called 'dartz'; choose one of darts,"),
        (["search", "--strategy", "dartz"], "Did you mean darts"),
        (["search", "--space", "mobile"], "no space is called 'mobile'; choose one of darts, nas_bench_201"),
        (["search", "--dataset", "no_such_set"], "no_such_set"),
        (["search", "--dataset", "mine.npz"], "mine.npz"),
        (["search", "--channels", "3"], "channels=3"),
        (["search", "--depth", "2"], "layers=2"),
        (["search", "--fraction", "0"], "fraction"),
        (["search", "--resume"], "--out"),
        (["search", "--stop", "soon"], "no rule to stop by is called 'soon'; choose one of never, sharp-rise"),
        (["search", "--strategy", "darts-es", "--curvature", "0"], "sharp-rise looks at the curvature"),
        (["info", "--side", "30"], "multiples of 4"),
        (["info", "no genotype"], "enotype"),
        (["info", "darts_v3"], "no published genotype; near it: DARTS_V2, DARTS_V1, "),
        (["draw", "|none~0|", "--out", "x.bmp"], ".png"),
        (["draw", "."], "genotype.json"),
    ],
    ids=lambda value: "_".join(value[1:]) if isinstance(value, list) else "",
)
def test_nonsense_is_answered_in_one_sentence(args, text, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, told = answer(cli.main, *args)
    assert status == 1 and text in told and "Traceback" not in told, told
    assert not any(tmp_path.glob("runs/*"))


def test_labels_outside_the_classes(stray_labels, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, told = answer(cli.main, "search", "--dataset", stray_labels)
    assert status == 1 and "-3" in told and "Traceback" not in told


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_the_exit_status_and_how_to_go_on_is_told(number, status, monkeypatch, tmp_path):
    def run(*args, **options):
        raise Interrupted(number, "stopped in epoch 3, after 2 of 9 steps")

    monkeypatch.setattr(runner, "run", run)
    done = CliRunner().invoke(app, ["search", "--smoke", "--out", str(tmp_path / "[b]")], env={"COLUMNS": "300"})
    assert done.exit_code == status
    assert "stopped in epoch 3, after 2 of 9 steps; nothing is lost" in done.output
    assert f"--out {tmp_path / '[b]'} --resume" in done.output


def test_rows_know_what_a_tabulated_space_needs():
    """GDAS has the gradient of its code for NAS-Bench-201; nothing changes elsewhere."""
    settings = SPACES["nas_bench_201"].settings
    assert settings[STRATEGIES["gdas"]]["convention"] is broadcast and not SPACES["darts"].settings
    assert {name for name, row in STRATEGIES.items() if row in settings} == {"gdas", "nasp", "random-sharing"}
