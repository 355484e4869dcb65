"""What is given on the command line is honoured as it is, or refused by its name before anything is made."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from jaxnas import cli, cli_evaluate, folder, parallel, places, planning
from jaxnas.options import BOUNDS, refuse

SMALL = ("search", "--space", "nas_bench_201", "--depth", "1", "--strategy", "darts-first-order")


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """The plan of a command, what it prints, or why it was refused, before anything is made."""
    monkeypatch.chdir(tmp_path)
    for module in (cli, planning):
        monkeypatch.setattr(module, "carry_out", lambda planned, *rest, **options: seen.append(planned))
    monkeypatch.setattr(cli_evaluate, "fit", lambda *args, **options: seen.append((args, options)))
    monkeypatch.setattr(parallel, "leave", sys.exit)
    seen: list = []

    def ask(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxnas", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        if end.value.code:
            assert not seen and not (tmp_path / "runs").exists(), "refused after something was made"
            assert "Traceback" not in said.err
            return said.err
        return seen.pop() if seen else said.out

    return ask


REFUSED = {
    "seed": ("-1", str(2**32), str(2**63), str(2**64)),
    "alpha-rate": ("-1", "nan", "inf", "1e400"),
    "channels": ("0", "-4", str(10**12)),
    "depth": ("0", "-1", "100000"),
    "epochs": ("0", str(10**19)),
    "batch": ("0", str(10**10), str(10**20)),
    "fraction": ("0", "-1", "2", "nan"),
    "curvature": ("-1",),
    "samples": ("0", "-1"),
    "strategy": ("", "DARTZ"),
    "space": ("",),
    "dataset": ("", " "),
    "stop": ("", "Never"),
    "precision": ("",),
    "matmul-precision": ("",),
    "layout": ("",),
    "devices": ("",),
}


@pytest.mark.parametrize(("option", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_a_value_that_cannot_be_meant_is_refused_by_the_name_of_its_option(told, option, value):
    strategy = ("--strategy", "random-sharing") if option == "samples" else ()
    text = told(*SMALL, *strategy, f"--{option}", value)
    assert option in text or option.replace("-", " ") in text or "placement on devices" in text or "rule" in text
    assert "Invalid value" in text or text.startswith("jaxnas: ")


def test_zero_is_taken_as_it_is(told):
    assert told(*SMALL, "--alpha-rate", "0").settings["alpha_rate"] == 0
    assert told(*SMALL, "--curvature", "0").watch is None
    assert told(*SMALL, "--seed", 2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize("option", ["channels", "depth", "classes", "side"])
@pytest.mark.parametrize("value", [0, -3])
def test_numbers_of_info_are_refused_too(told, option, value):
    assert f"--{option} {value}: give a whole number" in told("info", "DARTS_V2", f"--{option}", value)


@pytest.mark.parametrize("what", ["", " "])
def test_an_empty_genotype_is_not_the_supernet(told, what):
    assert "genotype" in told("info", what, "--quiet")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("seed", 2**63),
        ("seed", -1),
        ("valid-fraction", -1),
        ("valid-fraction", "nan"),
        ("channels", 0),
        ("depth", 0),
        ("label", ""),
    ],
)
def test_numbers_of_a_retraining_are_refused_too(told, option, value):
    assert f"--{option}" in told("evaluate", "DARTS_V2", "--smoke", f"--{option}", value)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-5"])
def test_simulated_seconds_are_refused_too(told, value, tmp_path):
    assert "--seconds" in told("tabular", "--table", tmp_path / "no.npz", "--seconds", value)


def test_bounds_name_what_is_possible():
    with pytest.raises(ValueError, match=r"^--alpha-rate nan: give a number from 0 to 1,000\.$"):
        refuse(alpha_rate=float("nan"))
    with pytest.raises(ValueError, match=r"^--fraction 0: give a number above 0 and at most 1\.$"):
        refuse(fraction=0)
    with pytest.raises(ValueError, match=r"^--depth True: give a whole number from 1 to 500\.$"):
        refuse(depth=True)
    assert refuse(**dict.fromkeys(BOUNDS)) is None


# ---------------------------------------------------------------- paths and names


def arrays(size=40, classes=4):
    return {
        "image": np.random.default_rng(0).integers(0, 256, (size, 8, 8, 3), np.uint8),
        "label": np.arange(size) % classes,
    }


@pytest.mark.parametrize("name", ["good.npz", "GOOD.NPZ", "a[/b].npz", "x:100:.npz", "[red]x.npz", "ü ö.npz"])
def test_files_of_any_name_are_read_and_told(told, name, tmp_path, capsys):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **arrays())
    assert told(*SMALL, "--dataset", name).settings["dataset"] == name


def test_a_tilde_is_the_home_folder(told, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    np.savez(tmp_path / "home" / "x.npz", **arrays())
    assert len(told(*SMALL, "--dataset", "~/x.npz").data.train.label) == 16


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.npy", "a file of the kind '.npy'"),
        ("x.csv", "a file of the kind '.csv'"),
        ("folder/", "is not there"),
        (".", "has 0 images in 0 sub-folders"),
        ("C:\\data\\mine.npz", "with / between folders|is not there"),
        ("file://x.npz", "is not there|on this machine"),
        ("absent.npz", "absent.npz is not there"),
        ("cifa10", "did you mean .*cifar10"),
    ],
)
def test_another_kind_of_path_is_told(told, name, text):
    assert re.search(text, told(*SMALL, "--dataset", name))


@pytest.mark.parametrize("side", [8, 20, 28])
def test_the_papers_recipe_takes_small_images(told, side, tmp_path):
    images = np.zeros((40, side, side, 1), np.uint8)
    np.savez(tmp_path / "small.npz", image=images, label=np.arange(40) % 4)
    asked = ("--recipe", "cifar", "--dataset", "small.npz", "--channels", 4, "--depth", 3)
    assert told("evaluate", "DARTS_V2", *asked)[0][2].auxiliary == 0.4


def test_a_file_where_a_folder_is_wanted_is_told(tmp_path):
    (tmp_path / "afile").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, what in (("afile", "a file"), ("dangling", "a link to nothing")):
        with pytest.raises(FileExistsError, match=rf"{name} is {what}: name a folder with --out"):
            folder.claim(tmp_path / name, {})


def test_two_runs_of_one_second_have_two_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(places.time, "strftime", lambda form: "20260101-000000")
    found = [places.fresh("darts", "a[b]/c:d", "seed1", among=tmp_path) for _ in range(3)]
    assert [path.name for path in found] == [f"20260101-000000-darts-a-b-c-d-seed1{end}" for end in ("", "-2", "-3")]
    assert all(path.is_dir() and path.parent == tmp_path for path in found)


# ---------------------------------------------------------------- what a run keeps


def test_a_run_is_continued_with_the_options_that_it_had(told, tmp_path):
    np.savez(tmp_path / "own.npz", **arrays())
    asked = ("--dataset", "own.npz", "--data-dir", ".", "--channels", 6, "--seed", 3, "--alpha-rate", 0, "--epochs", 7)
    first = told(*SMALL, *asked, "--curvature", 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(first.settings))
    again = told("search", "--out", "run", "--resume")
    assert again.settings == first.settings and again.stages[0].epochs == 7 and again.watch is None
    assert again.space.skeleton == first.space.skeleton and again.data.digest == first.data.digest
    assert told("search", "--out", "run", "--resume", "--channels", 4).settings["channels"] == 4  # the run refuses it


@pytest.mark.parametrize("record", ["", "[]", '{"options": 3}', '{"strategy": "gdas"}', "[" * 10**5])
def test_a_record_without_options_leaves_the_usual_ones(told, record, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(record)
    assert told("search", "--out", "run", "--resume").settings["strategy"] == "darts"


def test_a_retraining_is_continued_with_the_options_that_it_had(told, tmp_path):
    asked = ("evaluate", "DARTS_V2", "--channels", 4, "--depth", 3, "--seed", 5, "--epochs", 2, "--label", "mine")
    first = told(*asked)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(first[1]["settings"]))
    again = told("evaluate", "--out", "run", "--resume")
    assert again[0][:3] == first[0][:3] and again[1]["settings"] == first[1]["settings"]
    shutil.rmtree(tmp_path / "runs")  # that of the first, which had no --out
    assert "name what to train" in told("evaluate")
