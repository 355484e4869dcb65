"""The public names: listed, so that a removal is a decision, and each with a docstring that tells its arguments."""

import ast
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import jaxnas
from jaxnas.spaces.genotype import Genotype

LIST = Path(__file__).parent / "fixtures" / "public_names.txt"


def handed_on(path: Path) -> list[str]:
    """Names that a module imports for others, for type checkers where it finds them later: `from a import b as b`."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    body += [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    nodes = [node for node in body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in nodes for alias in node.names if alias.asname == alias.name]


MODULES = ("interop_network", "live", "logs", "precision", "seeds")  # public, and imported by their path


@cache
def public() -> dict[str, object]:
    """`jaxnas.__all__`, `MODULES`, what moved, where it lives; of modules their functions, classes and genotypes."""
    places = [*MODULES, *(f"{module}.{name}".removeprefix("jaxnas.") for name, module in jaxnas._MOVED.items())]
    found = {name: getattr(jaxnas, name) for name in jaxnas.__all__}
    found |= {place: pkgutil.resolve_name(f"jaxnas.{place}") for place in places}
    modules = {name: one for name, one in found.items() if isinstance(one, types.ModuleType)}
    return found | {f"{name}.{inner}": one for name, module in modules.items() for inner, one in inside(module)}


def inside(module: types.ModuleType) -> Iterator[tuple[str, object]]:
    """What is public of a module: its own functions and classes, genotypes, and what it hands on."""
    kept = handed_on(Path(str(module.__file__)))
    for name, one in vars(module).items():
        mine = (inspect.isfunction(one) or inspect.isclass(one)) and one.__module__ == module.__name__
        if (mine or isinstance(one, Genotype) or name in kept) and not name.startswith("_"):
            yield name, one


CALLED = {name: one for name, one in public().items() if inspect.isfunction(one) or inspect.isclass(one)}


def test_the_list_is_what_there_is():
    """A name that goes needs a deprecation first (CONTRIBUTING.md); a new one is added to the list."""
    listed = LIST.read_text(encoding="utf-8").split()
    assert sorted(public()) == listed, f"change {LIST.name} if you mean it: {set(public()) ^ set(listed)}"


@pytest.mark.parametrize("name", [name for name, one in CALLED.items() if inspect.isfunction(one)])
def test_a_function_tells_its_arguments(name):
    said = inspect.getdoc(CALLED[name]) or ""
    assert said, f"jn.{name} has no docstring"
    lines = re.findall(r"^  ((?:\w+, )*\w+): ", said.partition("Args:\n")[2].partition("\n\n")[0], re.M)
    missing = set(inspect.signature(CALLED[name]).parameters) - {one for line in lines for one in line.split(", ")}
    assert not missing, f"jn.{name} does not tell what {', '.join(missing)} is: add it under 'Args:'"


@pytest.mark.parametrize("name", [name for name, one in CALLED.items() if inspect.isclass(one)])
def test_a_class_and_its_methods_say_what_they_are(name):
    one = CALLED[name]
    said = one.__doc__ or ""
    assert said and not said.startswith(f"{one.__name__}("), f"jn.{name} has no docstring"  # dataclasses make one
    methods = {k: v for k, v in vars(one).items() if isinstance(v, types.FunctionType | property)}
    silent = [k for k, v in methods.items() if not k.startswith("_") and not v.__doc__]
    assert not silent, f"jn.{name}: {', '.join(silent)} without a docstring"


def test_modules_say_where_they_are_in_the_river():
    for name, one in public().items():
        if isinstance(one, types.ModuleType):
            assert one.__doc__, f"jn.{name} has no docstring"


def test_what_users_see_is_about_sixty_names():
    assert len(jaxnas.__all__) < 70 and len(set(jaxnas.__all__)) == len(jaxnas.__all__)
    shown = [name for name in dir(jaxnas) if not name.startswith("_")]
    assert shown == sorted(jaxnas.__all__) and not set(jaxnas._MOVED) & set(shown)
    everything: dict[str, object] = {}
    exec("from jaxnas import *", everything)
    assert set(jaxnas.__all__) == everything.keys() - {"__builtins__"}


@pytest.mark.parametrize("name", jaxnas._MOVED)
def test_a_name_that_moved_is_found_and_says_where_it_lives(name):
    place = jaxnas._MOVED[name]
    with pytest.warns(DeprecationWarning, match=re.escape(f"write `from {place} import {name}`")) as warned:
        found = getattr(jaxnas, name)
    assert warned[0].filename == __file__ and "0.3" in str(warned[0].message)
    names: dict[str, object] = {}
    exec(f"from {place} import {name}", names)
    assert found is names[name]


def test_no_other_name_is_found():
    with pytest.raises(AttributeError, match="module 'jaxnas' has no attribute 'darst'"):
        jaxnas.darst  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'darst'"):
        exec("from jaxnas import darst")
