"""The table of methods as a document."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaxnas import table
from jaxnas.cli import app
from jaxnas.strategies.algorithms import pc_darts
from jaxnas.strategies.mixing import partial_channels, sampled

ROOT = Path(__file__).parent.parent
ROWS = {row.name: row for row in table.rows()}


def test_the_document_is_what_the_code_says():
    assert (ROOT / "docs/methods.md").read_text(encoding="utf-8") == table.markdown(), (
        "the table has changed: jaxnas methods --markdown > docs/methods.md"
    )


@pytest.mark.parametrize("name", ROWS)
def test_every_row_says_where_it_is_from_and_what_was_checked(name):
    row = ROWS[name]
    assert "arXiv" in row.reference and row.checked and row.what.endswith(".")


def test_slots_are_told_through_wrappers():
    assert ROWS["pc_darts"].slots["relaxation"] == "edge_normalized(softmax)"
    assert table.told(partial_channels(2, sampled())) == "partial_channels(sampled)"
    assert table.row(lambda steps: pc_darts(steps)).slots["solver"] == "alternating(first_order)"


def test_the_command_prints_it():
    shown = [
        CliRunner().invoke(app, ["methods", *more], env={"COLUMNS": "200"}).stdout for more in ((), ("--markdown",))
    ]
    assert shown[1] == table.markdown()
    assert all(name in shown[0] for name in ROWS)
