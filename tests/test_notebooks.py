"""The notebooks run from top to bottom, and what is stored in them is what a run shows."""

import ast
import importlib
import json
from pathlib import Path

import pytest
from conftest import CACHE, FAST

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook):
    """Its cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(cell):
    """What a cell shows, as the richest form of each output; warnings on stderr are not counted."""
    told = [next(iter(sorted(output["data"]))) for output in cell["outputs"] if "data" in output]
    return told + [output["name"] for output in cell["outputs"] if output.get("name") == "stdout"]


@by_name
def test_what_is_stored(path):
    """Run in order and without errors, with pictures of less than 100 kB, and nothing of the machine it ran on."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and max(map(len, pictures)) * 3 / 4 < 100_000
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert all(output.get("name") != "stderr" for output in outputs) and "/home/" not in path.read_text("utf-8")


@by_name
def test_public_names_only(path):
    """What a notebook takes from `jn` is public, and it does not reach for private names."""
    import jaxnas as jn

    text = "\n".join("".join(cell["source"]) for cell in code(json.loads(path.read_text(encoding="utf-8"))))
    tree = ast.parse(text.replace("%matplotlib inline", ""))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "jn"}
    assert used and all(hasattr(jn, name) for name in used)
    assert not any(
        isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr != "_replace"
        for node in ast.walk(tree)
    )
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxnas")]
    for node in taken:
        there = importlib.import_module(node.module)
        assert all(hasattr(there, alias.name) for alias in node.names), ast.unparse(node)


SHOWN = """
import time
from jaxnas import drawing, progress, terminal
from jaxnas.spaces.published import DARTS_V2
console = terminal.console()  # as `run` makes it
with progress.counting(console, "counting") as tell:
    for done in range(4):
        tell(done, 4)
        time.sleep(0.3)
terminal.say(console, "counted")
"""


def test_what_a_kernel_shows(tmp_path, monkeypatch):
    """One box for all lines, in whose place the bar moves; pictures of figures and genotypes, unasked."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # the package that is tested
    cells = [nbformat.v4.new_code_cell(text) for text in (SHOWN, "drawing.draw_cells(DARTS_V2)", "DARTS_V2")]
    notebook, moved = nbformat.v4.new_notebook(cells=cells), []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] == "update_display_data":
                moved.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, cell, index)

    Client(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    (box,), (figure,), (genotype,) = ([one for one in cell.outputs if "data" in one] for cell in notebook.cells)
    assert box.data["text/plain"] == "counted"
    assert sum(any(f"{done}/4" in text for text in moved) for done in range(4)) > 1
    assert "image/png" in figure.data and "image/svg+xml" in genotype.data


@pytest.mark.slow
@by_name
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In a kernel of its own; every cell shows the kinds of things that are stored."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", CACHE)
    monkeypatch.setenv("XLA_FLAGS", FAST)
    stored, notebook = (nbformat.read(path, as_version=4) for _ in range(2))
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    assert [kinds(cell) for cell in code(notebook)] == [kinds(cell) for cell in code(stored)]
