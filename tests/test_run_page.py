"""The page of a run: whole, fetching nothing, all text escaped; for runs that are over, that go on, that retrain."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxnas import folder, reports
from jaxnas.cli import app
from jaxnas.evaluation import charts
from jaxnas.spaces.darts import s3
from jaxnas.spaces.genotype import to_json
from jaxnas.spaces.published import DARTS_V2
from jaxnas.spaces.space import Gates

SPACE = s3(2, 3, 4, image=(8, 8, 1))
HOSTILE = "<script>alert('x')</script> & \"so\""
RUN = {"seed": 3, "dataset": HOSTILE, "strategy": "darts", "epochs": [4], "space": {"ops": list(SPACE.op_names)}}


def scores(epoch):
    """The first operation grows on every edge."""
    first = 0.4 + 0.1 * epoch
    rows = np.tile([first, 0.6 * (1 - first), 0.4 * (1 - first)], (14, 1))
    return {cell: Gates(rows, np.ones(14)) for cell in SPACE.cells}


def record(epoch, **more):
    told = {"epoch": epoch, "train_loss": 2.0 / epoch, "valid_loss": 2.5 / epoch, "alpha_entropy": 1.0, "skips": epoch}
    return {**told, "genotype": json.loads(to_json(DARTS_V2)), **more}


@pytest.fixture
def run(tmp_path):
    """The folder of a search of four epochs that is not over."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text(json.dumps(RUN))
    for epoch in (1, 2, 3):
        folder.append(out, record(epoch, warnings={"skips": HOSTILE} if epoch == 2 else {}), scores(epoch))
    return out


def over(run):
    folder.append(run, record(4, measured={"curvature": 0.25}), scores(4))
    result = {"versions": {"jax": "0.0.1"}, "seconds": {"total": 12.5}, "answer": {"epoch": 4}}
    (run / "result.json").write_text(json.dumps(result))
    return reports.leave(run, SPACE).read_text()


class Reader(HTMLParser):
    """Tags as they nest, and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.given, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.given += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.given += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + "\n"


def test_the_page_is_whole_and_fetches_nothing(run):
    text = over(run)
    found = Reader(text)
    assert not found.open and not {"script", "link", "img", "iframe", "object"} & set(found.seen)
    links = [value for name, value in found.given if name in ("href", "xlink:href", "src")]
    assert all(value.startswith("#") for value in links) and "url(http" not in text and "@import" not in text
    ids = [value for name, value in found.given if name == "id"]
    assert len(ids) == len(set(ids)) and {link[1:] for link in links} <= set(ids)
    assert not any(name.startswith("on") for name, _ in found.given)
    assert HOSTILE in found.text  # as text


def test_everything_is_told(run):
    found = Reader(over(run)).text
    for title in ("Cells", "Alpha over time", "Curves", "What to know", "Settings", "Environment"):
        assert f"\n{title}\n" in found
    for told in (
        "4 of 4 epochs.",
        "the genotype of epoch 4",
        "lowest in epoch 4: 0.6250",
        "curvature",
        "0.0.1",
        "12.5",
    ):
        assert told in found, told
    for source, target in SPACE.edges:
        assert found.count(f"{source} → {target}  none 0.80") == 2  # in each cell type, with the strongest operation
    assert "loss, nats" in found and "entropy of alpha, nats" in found and "epoch" in found


def test_a_run_that_goes_on(run):
    found = Reader(reports.leave(run, None).read_text()).text
    assert "3 of 4 epochs; it is not over." in found and "edge 0  none 0.70" in found and "Environment" not in found


def test_a_run_without_a_finished_epoch(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(RUN))
    found = Reader(reports.leave(tmp_path, SPACE).read_text()).text
    assert "no epoch is finished." in found and "Cells" not in found and "Curves" not in found


def test_a_retraining(tmp_path):
    config = {"label": "mine", "dataset": "digits", "seed": 1, "recipe": {"epochs": 2, "rate": 0.05}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "genotype.json").write_text(to_json(DARTS_V2))
    for epoch in (1, 2):
        folder.log(tmp_path, {"epoch": epoch, "train_loss": 1.0, "rate": 0.05 / epoch})
    (tmp_path / "result.json").write_text(json.dumps({"test": {"accuracy": 0.875}}))
    found = Reader(reports.leave(tmp_path, SPACE).read_text()).text
    assert "mine trained from scratch on digits, seed 1" in found and "87.50% of the test images are right" in found
    assert "learning rate" in found and "Alpha over time" not in found


def test_the_command(run, tmp_path):
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "a.html")], env={"COLUMNS": "300"})
    assert done.exit_code == 0 and str(tmp_path / "a.html") in done.output
    assert "0 → 2  none 0.70" in (tmp_path / "a.html").read_text()  # the genotype's space is known by its name
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert isinstance(missing.exception, FileNotFoundError) and "folder of a run" in str(missing.exception)


def test_ink_is_the_score_and_long_histories_keep_their_ends():
    table = np.zeros((500, 1, 2))
    table[0, 0, 0] = table[-1, 0, 1] = 0.5
    drawn = charts.heat(table, ["0 → 1"], ["a", "b"], "epoch")
    full = re.findall(r'<path d="([^"]*)" class="mean" fill-opacity="1.00"/>', drawn)
    assert len(full) == 1 and full[0].count("M") == 2 and ">500<" in drawn and ">0.50<" in drawn


def test_curves_differ_by_their_dashes():
    drawn = charts.lines({"train": [(1, 2.0), (2, 1.0)], "valid": [(1, 2.5)]}, "epoch", "loss, nats", mark=2)
    assert drawn.count('class="bar dash0"') == drawn.count('class="bar dash1"') == 2  # the curve, and its key
    assert "<circle" in drawn and 'class="mark"' in drawn and ">train<" in drawn and ">valid<" in drawn


def test_epochs_are_whole():
    drawn = charts.lines({"skips": [(1, 3)]}, "epoch", "skip connections, number")
    assert re.findall(r">(-?[\d.]+)</text>", drawn) == ["1", "3"]
