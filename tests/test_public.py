"""The public names: listed, so that a removal is a decision, and each with a docstring that tells its arguments."""

import ast
import inspect
import re
import types
from functools import cache
from pathlib import Path

import pytest

import jaxnas
from jaxnas.spaces.genotype import Genotype

LIST = Path(__file__).parent / "fixtures" / "public_names.txt"


def handed_on(path: Path) -> list[str]:
    """Names that a module imports for others: `from a import b as b`."""
    nodes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in nodes for alias in node.names if alias.asname == alias.name]


@cache
def public() -> dict[str, object]:
    """What `jaxnas/__init__.py` hands on; of modules among it, the functions, classes and genotypes too."""
    found: dict[str, object] = {}
    for name in handed_on(Path(jaxnas.__file__)):
        value = found[name] = getattr(jaxnas, name)
        if isinstance(value, types.ModuleType):
            kept = handed_on(Path(value.__file__))
            for inner, one in vars(value).items():
                mine = inspect.isfunction(one) or inspect.isclass(one)
                mine = (mine and one.__module__ == value.__name__) or isinstance(one, Genotype) or inner in kept
                if mine and not inner.startswith("_"):
                    found[f"{name}.{inner}"] = one
    return found


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
