"""What is given on the command line is honoured as it is, or refused by its name before anything is made."""

import json
import re
import shutil
import sys
import tomllib

import numpy as np
import pytest

from jaxnas import cli, continuing, folder, parallel, places, planning, retraining
from jaxnas.names import RECIPES
from jaxnas.options import BOUNDS, refuse
from jaxnas.settings import in_full, with_recipe

SMALL = ("search", "--space", "nas_bench_201", "--depth", "1", "--strategy", "darts-first-order")


@pytest.fixture
def told(monkeypatch, capsys, tmp_path):
    """The plan of a command, what it prints, or why it was refused, before anything is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "carry_out", lambda planned, *rest, **options: seen.append(planned))
    monkeypatch.setattr(retraining, "fit", lambda *args, **options: seen.append((args, options)))
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


# ---------------------------------------------------------------- settings of the row, files


PC = (*SMALL[:-1], "pc-darts", "--fraction", "0.1")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("weights.rat=0.1", r"has no such setting. Did you mean weights.rate or .* It has alpha.beta1, "),
        ("momentum=0.1", "Did you mean weights.momentum?"),
        ("weights.rate", "give a setting and its value"),
        ("weights.rate=", "give a setting and its value"),
        ("weights.rate=nan", "--set weights.rate=nan: give a number from 0"),
        ("weights.rate=-inf", "--set weights.rate=-inf: give a number"),
        ("weights.rate=-0.1", "--set weights.rate=-0.1: give a number"),
        ("weights.rate=1\ny=2", "--set weights.rate=.*: give a number"),
        ("weights.rate=1979-05-27", "--set weights.rate=.*: give a number"),
        ("mixing.divisor=0.5", "--set mixing.divisor=0.5: give a whole number"),
        ("alpha.beta1=1.0", "from 0 and below 1"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_its_name(told, given, why):
    assert re.search(why, told(*PC, "--set", given), re.S)


def test_a_setting_is_given_once_and_alphas_rate_by_one_name(told):
    assert "given twice: 1 and 2" in told(*PC, "--set", "alpha.rate=1", "--set", "alpha.rate = 2")
    assert "are one number" in told(*PC, "--set", "alpha.rate=1", "--alpha-rate", 2)
    planned = told(*PC, "--set", "alpha.rate=.25")
    assert planned.settings["alpha_rate"] == planned.made.values["alpha.rate"] == 0.25
    assert "alpha's rate 0.25" in planned.told


def test_a_setting_reaches_the_strategy(told):
    planned = told(*PC, "--set", "weights.rate=5e-2", "--set", "when.steps=3", "--set", "mixing.divisor=2")
    found = in_full(planned.stages)
    assert (found["weights.rate"], found["when.steps"], found["mixing.divisor"]) == (0.05, 3, 2)
    assert planned.settings["options"]["changes"]["weights.rate"] == 0.05
    assert planned.stages[0].strategy.mixing.width(8) == 4


@pytest.mark.parametrize("strategy", ["pc-darts", "p-darts", "dr-nas", "nasp", "random-sharing", "snas"])
def test_what_is_shown_is_read_back(told, strategy, tmp_path):
    """All settings by a file alone: the same search, its numbers and its record."""
    rate = () if strategy == "random-sharing" else ("--set", "alpha.rate=0.01")
    asked = (*SMALL[:-1], strategy, "--channels", 12, "--seed", 3, "--set", "weights.rate=0.07", *rate)
    shown = told(*asked, "--show")
    assert tomllib.loads(shown)["set"]["weights"]["rate"] == 0.07
    (tmp_path / "run.toml").write_text(shown)
    first, again = told(*asked), told("search", "--config", "run.toml")
    plain = lambda planned: {name: value for name, value in planned.settings.items() if name != "options"}
    assert plain(again) == plain(first) and in_full(again.stages) == in_full(first.stages)
    assert [stage.settings for stage in again.stages] == [stage.settings for stage in first.stages]
    assert again.data.digest == first.data.digest and again.space.skeleton == first.space.skeleton
    for line in shown.splitlines():
        assert "  # " in line or line.startswith(("#", "[set]")) or not line, "where it came from is missing"


def test_show_says_where_each_came_from_and_makes_nothing(told, tmp_path):
    (tmp_path / "run.toml").write_text('strategy = "pc-darts"\nalpha-rate = 0.5\n[set]\nweights.clip = 3\n')
    shown = told("search", "--space", "nas_bench_201", "--config", "run.toml", "--set", "weights.decay=0", "--show")
    from_where = {line.split(" = ")[0].lstrip("# "): line.partition("  # ")[2] for line in shown.splitlines()}
    assert from_where["space"] == from_where["weights.decay"] == "command line"
    assert from_where["strategy"] == from_where["weights.clip"] == "run.toml"
    assert from_where["epochs"] == "default" and from_where["weights.momentum"] == "the row pc-darts"
    assert "follows from the search's length" in from_where["weights.rate_steps"]
    assert "# weights.rate_steps = " in shown and "alpha.rate = 0.5" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_typed_options_count_more_than_the_file_and_that_more_than_the_run(told, tmp_path):
    (tmp_path / "run.toml").write_text(
        "epochs = 3\nfraction = 0.1\n[set]\nweights.rate = 0.3\nweights.clip = 2.0\nalpha.rate = 0.3\n"
    )
    asked = (*SMALL, "--config", "run.toml", "--set", "weights.rate=0.4", "--seed", 5, "--alpha-rate", 0.2)
    first = told(*asked)
    values = first.made.values
    assert (values["weights.rate"], values["weights.clip"], values["alpha.rate"]) == (0.4, 2.0, 0.2)
    assert first.stages[0].epochs == 3 and first.seed == 5
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(first.settings))
    again = told("search", "--out", "run", "--resume")
    assert again.settings == first.settings and again.made.values == values
    other = told("search", "--config", "run/config.json", "--set", "weights.clip=1")
    assert other.settings["seed"] == 5 and other.made.values == {**values, "weights.clip": 1.0}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "is not there"),
        (b"\xff\xfe", "is not a text file"),
        (b"epochs = ", "is no TOML"),
        (b"{", "is no config.json"),
        (b'{"epochs": [3]}', "does not say what its run was asked for"),
        (b"epoch = 3", "takes no 'epoch' from a file. Did you mean epochs"),
        (b"out = 'x'", "takes no 'out' from a file"),
        (b"epochs = 'many'", 'epochs = "many": give a whole number'),
        (b"epochs = 2.5", "epochs = 2.5: give a whole number"),
        (b"epochs = true", "epochs = true: give a whole number"),
        (b"epochs = 0", "--epochs 0: give a whole number"),
        (b"strategy = 3", "strategy = 3: give a text"),
        (b"smoke = 1", "smoke = 1: give true or false"),
        (b"set = 3", "give a table"),
        (b"[set]\nweights.rate = 'x'", "--set weights.rate='x': give a number"),
        (b"[set.weights]\nrat = 1", "Did you mean weights.rate"),
    ],
)
def test_a_file_that_does_not_say_what_it_should(told, text, why, tmp_path):
    if text is not None:
        (tmp_path / "run.toml").write_bytes(text)
    assert why in told(*SMALL, "--config", "run.toml")
    assert "is a folder" in told(*SMALL, "--config", ".")


def test_a_recipe_has_settings_too(told, tmp_path):
    asked = ("evaluate", "DARTS_V2", "--channels", 4, "--depth", 3, "--set", "momentum=0.5", "--set", "clip=none")
    shown = told(*asked, "--show")
    (tmp_path / "run.toml").write_text(shown)
    first, again = told(*asked), told("evaluate", "--config", "run.toml")
    recipe = first[0][2]
    assert (recipe.momentum, recipe.clip, recipe.name) == (0.5, None, "small, changed")
    assert again[0][:3] == first[0][:3] and "# the recipe small" in shown


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("momentun=0.5", "Did you mean momentum?"),
        ("smoothing=1", "--set smoothing=1: give a number from 0 and below 1"),
    ],
)
def test_a_recipe_refuses_what_cannot_be_meant(told, given, why):
    assert why in told("evaluate", "DARTS_V2", "--set", given)


def test_the_decay_of_a_recipe_has_numbers_of_its_own():
    changed = with_recipe(RECIPES["imagenet"], {"decay.factor": 0.5, "rate": 0.1})
    assert changed.decay.factor == 0.5 and changed.name == "imagenet, changed"
    assert with_recipe(RECIPES["imagenet"], {"rate": 0.1}) is RECIPES["imagenet"]


# ---------------------------------------------------------------- longer runs


def record(epochs, **numbers):
    return {"epochs": epochs, "set": {"weights.rate": 0.1, "weights.rate_end": 0.0, "weights.rate_steps": 9, **numbers}}


def test_a_longer_search_is_the_same_search_where_its_schedules_are():
    old = record([3])
    found = continuing.differing(old, record([4]))
    assert continuing.is_longer(found, old) and not continuing.is_longer(continuing.differing(old, record([2])), old)
    found = continuing.differing(old, longer := record([4], **{"weights.rate_steps": 12}))
    assert not continuing.is_longer(found, old) and "(--set weights.rate_steps=9)" in continuing.told(found)
    constant = {"weights.rate_end": 0.1}
    found = continuing.differing(record([3], **constant), record([4], **constant, **{"weights.rate_steps": 12}))
    assert continuing.is_longer(found, old)
    del old["set"]  # of an older version: its schedules are not known
    assert continuing.differing(old, longer) == {"epochs": ([3], [4])}
    assert not continuing.is_longer({"epochs": ([3], [4])}, old)
    assert not continuing.differing(old, record([3]))
    assert "length that they had" in continuing.told({"epochs": ([3, 3], [4, 4])})
