"""What commands print fits 80 columns and a pipe, and no name in it is cut or broken."""

import io
import json

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text
from test_benchmark import CONVOLUTIONS, arrays
from test_comparison import BOTH, searched, three
from test_logs import FLAT, SHARP, SPACE
from typer.testing import CliRunner

from jaxnas import live, notebook, progress, terminal
from jaxnas.cli import COMMANDS, app
from jaxnas.cli_help import EXAMPLES

SHOW = terminal.show
LONG = "a-label-of-a-method-that-somebody-thought-about-for-longer-than-needed"
RECORD = {"epoch": 12345, "train_loss": 1234.56789, "train_accuracy": 1.0, "valid_loss": 0.5, "valid_accuracy": 0.25}
RECORD |= {"alpha_entropy": 2.0794, "skips": 28, "images_per_second": 1234567.0}
MEASURED = {"alpha_slope": 0.29, "curvature": 0.644, "trace": 1.63, "a_measure_of_somebody": 1e-12}


@pytest.fixture
def places(tmp_path):
    """What the arguments of commands stand for: a table, and folders of runs."""
    np.savez(tmp_path / "table.npz", **arrays())
    places = []
    scored = [searched("darts", seed, 0.9, op=f"darts {seed}") for seed in (0, 1)]
    for number, record in enumerate([*BOTH, *three(LONG, 0.9, 0.91, 0.92), *scored]):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "result.json").write_text(json.dumps(record))
        places.append(str(tmp_path / f"run{number}"))
    return {"TABLE": [str(tmp_path / "table.npz")], "RUNS": places}


LINES = {
    "info": "info",
    "info of a genotype": "info DARTS_V2",
    "list": "list",
    "methods": "methods",
    "compare": "compare RUNS",
    "lookup": f"lookup {CONVOLUTIONS} --table TABLE",
    "tabular": "tabular --table TABLE --runs 2 --seconds 3000",
}


@pytest.fixture
def printed(monkeypatch):
    """Tables that a command printed."""
    found = []
    monkeypatch.setattr(terminal, "show", lambda console, shown: found.append(shown) or SHOW(console, shown))
    return found


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_tables_fit_and_names_are_whole(line, places, printed):
    args = [word for part in line.split() for word in places.get(part, [part])]
    done = CliRunner().invoke(app, args, env={"COLUMNS": "80"})
    assert done.exit_code == 0 and printed, done.output
    for shown in printed:
        assert rendered(shown, 80) in done.output
        for width in (60, 80, 81, 132, 200):
            check(shown, width)


def rendered(shown, width):
    out = io.StringIO()
    SHOW(Console(file=out, width=width), shown)
    return out.getvalue()


def check(shown, width):
    text = rendered(shown, width)
    words = {word for row in shown.rows for cell in row for word in cell.split()}
    assert words <= set(text.split()) and "…" not in text
    too_wide = [line for line in text.splitlines() if len(line) > width]
    assert not [line for line in too_wide if len(line.split()) > 1], "\n".join(too_wide)  # one long word may be


def test_what_a_live_screen_shows_fits():
    found = live.numbers(RECORD | {"measured": MEASURED})
    check(found, 80)
    check(found, 200)
    out = io.StringIO()
    Console(file=out, width=80).print(live.strongest({"normal": SHARP, "reduce": FLAT}, SPACE))
    assert max(map(len, out.getvalue().splitlines())) <= 80 and "max_pool_3x3" in out.getvalue()


def test_rows_of_epochs_fit_below_their_heads():
    """Numbers as long as they get; what was measured stands below."""
    out = io.StringIO()
    with progress.shown(Console(file=out, width=80), 50, 50_000) as show:
        show.row(RECORD | {"measured": MEASURED}, {})
    heads, row, measured = out.getvalue().splitlines()
    assert len(heads) == len(row) <= 80 and len(measured) <= 80 and all(f"{name} " in measured for name in MEASURED)
    for name, number in (("epoch", "12345"), ("train loss", "1234.5679"), ("entropy", "2.0794"), ("skips", "28")):
        assert heads.index(name) + len(name) == row.index(number) + len(number)


def test_rows_of_a_training_fit_below_their_heads():
    out = io.StringIO()
    with progress.shown_training(Console(file=out, width=80), 50, 50_000) as show:
        show.row(RECORD | {"rate": 0.025})
    heads, row = out.getvalue().splitlines()
    assert len(heads) == len(row) <= 80
    assert heads.index("rate") + len("rate") == row.index("0.02500") + len("0.02500")


def test_help_fits_and_options_are_whole():
    for command in COMMANDS | {"search": None}:
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"}).output
        assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
        options = {word for line in EXAMPLES[command] for word in line.split() if word.startswith("--")}
        assert options <= set(shown.split()), command


@pytest.mark.parametrize("line", ("search --show --strategy p-darts", "evaluate DARTS_V2 --show"))
def test_settings_fit(line):
    shown = CliRunner().invoke(app, line.split()).output
    assert max(map(len, shown.splitlines())) <= 80 and "[set]" in shown


def test_a_row_that_does_not_fit_becomes_a_list():
    shown = terminal.table(("name", "what\nit is", ""), [("x" * 90, "y " * 60, ""), ("z", "", "1")])
    text = rendered(shown, 80)
    assert text.splitlines()[0] == "x" * 90  # whole
    assert text.splitlines()[1] == "  what it is  " + " ".join("y" * 33)
    assert text.splitlines()[-1] == " " * 14 + "1"
    assert "┃" in rendered(shown, 200)


def test_what_is_said_is_broken_between_words_for_people_only():
    path = "/a/path/" + "x" * 80
    for terminal_there in (True, False):
        out = io.StringIO()
        console = Console(file=out, width=40, force_terminal=terminal_there, no_color=True)
        terminal.say(console, "Everything that there is lies in ", path, "; look at it [bold].")
        lines = Text.from_ansi(out.getvalue()).plain.splitlines()
        whole = f"Everything that there is lies in {path}; look at it [bold]."
        assert lines == ([whole[:32], whole[33:122], whole[123:]] if terminal_there else [whole])


def test_a_notebook_shows_one_box_that_is_drawn_anew():
    """Lines stay, what moves stands below them and leaves; brackets of a user's names are no markup."""
    contents = []
    console = notebook.Box(contents.append).console
    with progress.shown(console, 2, 1) as show:
        show.epoch(1)(1, {"train": {"loss": 2.5}})
        console.file.draw()  # as a thread does by itself
        show.row(RECORD, {})
    terminal.warn(console, "[bold]<b>")
    moving, last = (content["text/plain"].splitlines() for content in (contents[-3], contents[-1]))
    assert "epoch 1/1" in moving[-1] and "step 1/2  train loss 2.500" in moving[-1]
    assert len(last) == 3 and last[0].startswith("epoch train loss") and last[2] == "warning: [bold]<b>"
    assert all("<pre" in content["text/html"] and "\x1b" not in content["text/plain"] for content in contents)
    assert "[bold]&lt;b&gt;" in contents[-1]["text/html"]


def test_what_stays_in_a_notebook_is_a_line():
    contents = []
    console = notebook.Box(contents.append).console
    with live.shown(console, 2, 1, space=SPACE) as show:
        show.row(RECORD, {"normal": SHARP, "reduce": FLAT})
    terminal.say(console, "after it")
    last = contents[-1]["text/plain"]
    assert "max_pool_3x3" in last and last.endswith("after it") and last.count("1234.5679") == 1
