"""What an import, a help and a Tab press load: a person waits for it, so it is listed."""

import ast
import json
import sys
from pathlib import Path

import pytest
from conftest import python

import jaxnas
from jaxnas import catalogue, choices, names

HEAVY = {"jax", "flax", "optax", "chex", "numpy", "scipy", "orbax", "tensorstore", "matplotlib", "PIL"}
HEAVY |= {"tensorflow", "tensorflow_datasets", "torch"}
BASE = {"jax", "flax", "optax", "chex", "numpy", "scipy"}
COMMANDS = {f"jaxnas.{name}" for name in ("cli", "cli_help", "cli_show", "cli_compare", "cli_evaluate", "cli_tables")}
COMMANDS |= {"jaxnas", "jaxnas.cli_resume", "jaxnas.choices", "jaxnas.options", "jaxnas.terminal"}
COMMANDS |= {"jaxnas.cli_settings", "jaxnas.notebook"}
TELL = "import json, sys; json.dump(sorted(sys.modules), sys.stderr)"
COMMAND = (
    "import sys; sys.argv = ['jaxnas'] + sys.argv[1:]; from jaxnas.cli import main\ntry: main()\nfinally:\n  " + TELL
)


def loaded(code, *args):
    """Modules in a Python of its own after some code, and what it printed."""
    done = python("-c", code, *args)
    return set(json.loads(done.stderr)), done.stdout


def heavy(modules):
    return {name.partition(".")[0] for name in modules} & HEAVY


def ours(modules):
    return {name for name in modules if name.partition(".")[0] == "jaxnas"}


def test_an_import_loads_nothing():
    modules, _ = loaded("import jaxnas; dir(jaxnas); " + TELL)
    assert ours(modules) == {"jaxnas"} and not heavy(modules)


def test_a_search_loads_what_it_computes_with():
    """Orbax where a state is kept, matplotlib where a picture is drawn, Pillow where an image is read."""
    used = (
        "import jaxnas as jn; jn.run, jn.fit, jn.bind, jn.darts, jn.spaces.darts, jn.data.load('digits'), jn.robust; "
    )
    modules, _ = loaded(used + TELL)
    assert {"jax", "flax", "optax"} <= heavy(modules) <= BASE


@pytest.mark.parametrize("args", [("--help",), ("search", "--help"), ("--version",)], ids=" ".join)
def test_help_loads_the_options_only(args):
    modules, told = loaded(COMMAND, *args)
    assert told and ours(modules) == COMMANDS and not heavy(modules)


@pytest.mark.parametrize(
    "words, wanted, more", [("search --strategy pc", "pc-darts", set()), ("search --dataset di", "digits", {"numpy"})]
)
def test_a_tab_press_loads_no_more(words, wanted, more, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_JAXNAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"jaxnas {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    modules, told = loaded(COMMAND)
    assert wanted in told.split() and heavy(modules) == more


def test_both_lists_of_public_names_are_one():
    """That which type checkers read, and the tables by which a name is found."""
    nodes = ast.walk(ast.parse(Path(jaxnas.__file__).read_text(encoding="utf-8")))
    read = {alias.asname: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    read = {name: module for name, module in read.items() if name and not name.startswith("_")}
    found = {name: place.rpartition(".")[0] for name, place in jaxnas._PLACES.items()} | jaxnas._HOMES
    assert (
        found == read
        and set(jaxnas.__all__) == set(read)
        and {*read, "__version__", "__all__", "__doc__"} == set(dir(jaxnas))
    )


def test_names_are_found_as_an_import_finds_them(monkeypatch):
    """Each is what its module holds; what is none is refused, and no module of another name is taken for it."""
    for name, home in jaxnas._HOMES.items():
        assert getattr(jaxnas, name) is getattr(sys.modules[home], name)
    for name, place in jaxnas._PLACES.items():
        assert getattr(jaxnas, name) is sys.modules[place]
    with pytest.raises(AttributeError, match="module 'jaxnas' has no attribute 'drats'"):
        jaxnas.drats  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'drats' from 'jaxnas'"):
        from jaxnas import drats  # noqa: F401


TABLES = ("STRATEGIES", "SPACES", "STOPS", "DEVICES", "LAYOUTS", "PRECISIONS", "RECIPES", "TABULAR", "PUBLISHED")


@pytest.mark.parametrize("kind", TABLES)
def test_what_help_and_completion_name_is_what_there_is(kind):
    assert getattr(choices, kind) == tuple(getattr(names, kind)), f"jaxnas/choices.py lists the names of names.{kind}"


def test_lists_are_named_as_they_are():
    assert tuple(catalogue.KINDS) == choices.KINDS
    assert {name for name in vars(choices) if name.isupper()} == {*TABLES, "KINDS", "SAMPLES", "SHORT"}
