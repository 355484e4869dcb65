"""What each module may know: the imports of every file, compared with one table."""

import ast
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

import jaxnas

ROOT = Path(jaxnas.__file__).parent
ANYTHING = ("*",)
SPACES, STRATEGIES = "spaces.*", "strategies.*"
SLOTS = (
    "strategies.relaxation",
    "strategies.draws",
    "strategies.perturbation",
    "strategies.mixing",
    "strategies.penalty",
    "strategies.decoding",
)
ALLOWED: dict[str, tuple[str, ...]] = {  # module -> what it may import from inside jaxnas
    "spaces.space": (),
    "spaces.notation": (),
    "spaces.genotype": ("drawing", "spaces.dialects", "spaces.notation"),  # the first in a notebook only
    "wanted": (),
    "spaces.bilinear": ("wanted",),
    "spaces.dense": ("spaces.bilinear", "wanted"),
    "spaces.pointwise": ("spaces.bilinear", "wanted"),
    "spaces.windows": (),
    "spaces.depthwise": ("spaces.bilinear", "spaces.sums", "spaces.windows", "wanted"),
    "spaces.pools": ("spaces.bilinear", "spaces.windows"),
    "spaces.sums": ("spaces.bilinear",),
    "spaces.gate": ("spaces.bilinear", "spaces.sums", "spaces.windows"),
    "spaces.turns": (),
    "spaces.lockstep": ("spaces.bilinear", "spaces.turns"),
    "spaces.drawn": ("spaces.turns",),
    "spaces.norm": ("spaces.bilinear", "spaces.lockstep", "spaces.sums"),
    "spaces.layout": ("spaces.bilinear", "spaces.lockstep"),
    "spaces.beside": ("spaces.bilinear", "spaces.sums"),
    "spaces.ops": (
        "spaces.beside",
        "spaces.dense",
        "spaces.depthwise",
        "spaces.gate",
        "spaces.norm",
        "spaces.pointwise",
        "spaces.pools",
        "spaces.sums",
    ),
    "spaces.plan": ("spaces.space",),
    "spaces.edges": (
        "spaces.bilinear",
        "spaces.gate",
        "spaces.layout",
        "spaces.norm",
        "spaces.plan",
        "spaces.space",
        "strategies.mixing",
        "wanted",
    ),
    "spaces.networks": (
        "spaces.drawn",
        "spaces.edges",
        "spaces.layout",
        "spaces.plan",
        "spaces.space",
        "strategies.mixing",
    ),
    "spaces.network": (
        "spaces.drawn",
        "spaces.genotype",
        "spaces.networks",
        "spaces.ops",
        "spaces.plan",
        "spaces.space",
    ),
    "spaces.published": ("spaces.genotype",),
    "spaces.auxiliary": ("spaces.ops",),
    "spaces.dialects": (),
    "spaces.darts": ("spaces.auxiliary", "spaces.ops", "spaces.space"),
    "spaces.imagenet": ("spaces.auxiliary", "spaces.darts", "spaces.ops", "spaces.space"),
    "spaces.nas_bench_201": ("spaces.ops", "spaces.space"),
    "spaces.nasnet": ("spaces.nas_bench_201", "spaces.ops", "spaces.space"),  # its head is that of NAS-Bench-201
    "spec": ("options",),  # knows functions, whatever they compute: the solvers' wall stands
    "strategies.relaxation": ("spaces.space", "spec"),
    "strategies.proximal": ("spaces.space", "spec", "strategies.relaxation"),
    "strategies.perturbation": ("spaces.space", "spec"),
    "strategies.draws": ("spaces.space", "spec", "strategies.relaxation"),
    "strategies.mixing": ("spec",),
    "strategies.penalty": ("evaluation.resources", "spaces.space", "spec"),
    "strategies.decoding": ("spaces.genotype", "spaces.space", "spec"),
    "hypergradient": ("spec",),
    "bilevel": ("hypergradient", "spec", "wanted"),
    "strategies.optimizers": ("hypergradient", "spec"),
    "strategies.settings": ("options", "spec", "strategies.strategy", "strategies.telling"),
    "strategies.strategy": ("bilevel", *SLOTS, "strategies.telling"),
    "strategies.telling": ("hypergradient", "strategies.mixing", "strategies.relaxation"),
    "strategies.algorithms": (
        "bilevel",
        "hypergradient",
        "spec",
        "strategies.optimizers",
        "strategies.proximal",
        "strategies.strategy",
        *SLOTS,
    ),
    "table": (STRATEGIES,),
    "search": ("bilevel", "hoisting", "hypergradient", SPACES, STRATEGIES),
    "seeds": ("hypergradient", "search", "spaces.genotype", "spaces.space"),
    "stages": (SPACES, STRATEGIES),
    "settings": ("evaluation.recipes", "options", "stages", STRATEGIES),
    "evaluation.diagnostics": ("hypergradient", "search", "spaces.genotype"),
    "evaluation.stopping": (),
    "evaluation.decision": (),
    "evaluation.statistics": (),
    "evaluation.outcomes": ("precision",),
    "evaluation.comparison": ("evaluation.outcomes", "evaluation.statistics"),
    "evaluation.rules": ("evaluation.comparison", "evaluation.outcomes", "evaluation.statistics"),
    "evaluation.report": (
        "evaluation.comparison",
        "evaluation.outcomes",
        "evaluation.rules",
        "evaluation.statistics",
    ),
    "evaluation.charts": (),
    "evaluation.page": ("evaluation.charts", "evaluation.comparison", "evaluation.report"),
    "evaluation.run_page": (
        "drawing",
        "evaluation.charts",
        "evaluation.decision",
        "evaluation.outcomes",
        "evaluation.page",
        "spaces.genotype",
    ),
    "reports": ("evaluation.run_page", "folder", "spaces.genotype", "spaces.space"),
    "ablation": ("bilevel", "hypergradient", "stages", STRATEGIES, "table"),
    "planning": ANYTHING,
    "cli_compare": ANYTHING,
    "robust": (
        "continuing",
        "data",
        "evaluation.*",
        "folder",
        "places",
        "runner",
        "settings",
        "spaces.space",
        "stages",
        "strategies.strategy",
        "terminal",
    ),
    "evaluation.cost": ("spaces.genotype", "spaces.network", "spaces.networks", "spaces.plan", "spaces.space"),
    "evaluation.resources": (
        "evaluation.cost",
        "spaces.networks",
        "spaces.ops",
        "spaces.plan",
        "spaces.space",
    ),
    "evaluation.latency": (
        "evaluation.cost",
        "evaluation.resources",
        "spaces.networks",
        "spaces.ops",
        "spaces.space",
    ),
    "evaluation.rows": ("spaces.genotype", "spaces.space"),
    "evaluation.benchmark": ("evaluation.rows", "spaces.genotype"),
    "evaluation.official_table": ("evaluation.benchmark", "spaces.genotype"),
    "evaluation.tabular": ("evaluation.benchmark",),
    "evaluation.methods": ("evaluation.tabular",),
    "evaluation.shared_weights": ("data", "hoisting", "hypergradient", "search", "spaces.genotype", "spaces.space"),
    "evaluation.random_search": (
        "evaluation.shared_weights",
        "hypergradient",
        "search",
        "spaces.genotype",
        "spaces.space",
        "strategies.decoding",
    ),
    "evaluation.perturbation": (
        "bilevel",
        "data",
        "epoch",
        "evaluation.shared_weights",
        "hoisting",
        "hypergradient",
        "search",
        "spaces.genotype",
        "spaces.space",
        "strategies.optimizers",
        "strategies.relaxation",
    ),
    "evaluation.recipes": ("augmentation", "data", "spec", "strategies.optimizers"),
    "evaluation.training": (
        "compiler",
        "data",
        "epoch",
        "evaluation.recipes",
        "hoisting",
        "feeding",
        "parallel",
        "search",
        "spaces.network",
    ),
    "evaluation.export": ("augmentation", "spaces.bilinear", "spaces.network"),
    "evaluation.plain_layers": (),  # its text is copied into files that run without jaxnas
    "evaluation.flax_calls": ("spaces.imagenet", "spaces.nas_bench_201", "spaces.nasnet", "spaces.ops"),
    "evaluation.flax_cells": ("evaluation.flax_calls", SPACES),
    "evaluation.flax_module": (
        "augmentation",
        "evaluation.flax_calls",
        "evaluation.flax_cells",
        "evaluation.plain_layers",
        SPACES,
    ),
    "cli_evaluate": ANYTHING,  # but not `cli`
    "retraining": ANYTHING,  # but not the command line
    "interop_names": (SPACES,),
    "interop": ("interop_names", SPACES, "strategies.mixing"),
    "interop_network": ("interop", SPACES),
    "datasets.stored": (),
    "datasets.prepared": ("datasets.stored",),
    "archive": ("memory",),
    "fingerprint": (),
    "datasets.arrays": ("archive",),
    "datasets.pictures": (),
    "datasets.folders": ("datasets.pictures", "datasets.stored"),
    "datasets.huggingface": ("datasets.pictures", "datasets.stored"),
    "data": ("datasets.*", "fingerprint", "memory"),
    "augmentation": ("data", "datasets.stored", "hoisting"),
    "reading": (
        "agreement",
        "augmentation",
        "data",
        "datasets.pictures",
        "datasets.stored",
        "fingerprint",
        "memory",
        "parallel",
    ),
    "feeding": ("data", "datasets.stored", "memory", "parallel"),
    "picture": (),
    "arcs": ("spaces.genotype",),
    "drawing": ("arcs", "picture", "spaces.genotype"),
    "drawing_tables": ("drawing", "picture"),
    "checkpoint": (),
    "processes": (),
    "agreement": (),
    "compiler": (),
    "parallel": ("agreement", "compiler", "data", "processes"),
    "interruption": ("checkpoint", "epoch", "search"),
    "memory": (),
    "recovery": (
        "checkpoint",
        "continuing",
        "folder",
        "interruption",
        "parallel",
        "search",
        "spaces.space",
        "terminal",
    ),
    "moved": (),
    "notebook": (),
    "terminal": ("notebook",),
    "cache": (),
    "options": (),
    "places": ("folder",),
    "epoch": ("agreement", "compiler", "data", "feeding", "hoisting", "hypergradient", "parallel", "search"),
    "continuing": (),
    "folder": ("archive", "continuing", "drawing", "fingerprint", "precision", "spaces.genotype", "spaces.space"),
    "progress": ("cache", "evaluation.decision", "spaces.genotype", "terminal"),
    "logs": ("runner",),
    "live": ("progress", "spaces.space", "terminal"),
    "record": (
        "continuing",
        "data",
        "evaluation.decision",
        "evaluation.diagnostics",
        "evaluation.stopping",
        "folder",
        "precision",
        "reports",
        "settings",
        "spaces.genotype",
        "spaces.space",
        "stages",
        "strategies.penalty",
    ),
    "refusals": ("data", "datasets.stored", "precision", "spaces.space", "stages", "strategies.strategy"),
    "hoisting": (),
    "precision": ("hoisting",),
    "fitting": ("agreement", "epoch", "feeding", "hypergradient", "memory", "parallel", "search", "spaces.layout"),
    "names": ANYTHING,
    "hooks": ("folder", "hypergradient", "search", "spaces.genotype"),
    "profiling": ("epoch", "parallel"),
    "runner": ANYTHING,  # but not the command line, below
    "cli": ANYTHING,
    "cli_tables": ANYTHING,  # but not `cli`
    "cli_show": ANYTHING,  # but not `cli`
    "choices": (),
    "cli_help": ("choices", "datasets.prepared"),
    "cli_resume": ("cli_settings", "folder"),
    "cli_settings": ("folder",),
    "catalogue": ("data", "datasets.prepared", "evaluation.recipes", "names", "spaces.genotype", "table"),
    "__main__": ("cli",),
    "": ANYTHING,  # jaxnas/__init__.py
    "spaces": ("spaces.darts", "spaces.imagenet", "spaces.nas_bench_201", "spaces.nasnet"),
    "strategies": (),
    "evaluation": (),
    "datasets": (),
}
OUTSIDE = {  # modules that may import only these packages besides the standard library
    "strategies.mixing": {"jax"},
    "hypergradient": {"jax", "optax"},
    "bilevel": {"jax", "optax"},
    "strategies.optimizers": {"jax", "optax"},
}
MAY_PRINT = ("runner", "cli")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    """The parsed file of a module."""
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def imported(module: str, nodes) -> set[str]:
    """Absolute names of what import statements reach: modules where they name modules, else module.object."""
    package = ("jaxnas." + module).rstrip(".").split(".")
    if FILES[module].name != "__init__.py":
        package = package[:-1]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def inside(module: str, nodes) -> set[str]:
    """Modules of jaxnas that import statements reach, without the leading `jaxnas.`."""
    found = set()
    for name in imported(module, nodes):
        head, _, rest = name.partition(".")
        if head == "jaxnas":
            found.add(rest if rest in FILES else rest.rpartition(".")[0])
    return found


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_what_its_row_allows(module):
    assert module in ALLOWED, f"jaxnas.{module} has no row: add one to the table in {Path(__file__).name}."
    found = inside(module, ast.walk(tree(module)))
    wrong = {name for name in found if not any(fnmatchcase(name, pattern) for pattern in ALLOWED[module])}
    assert not wrong, f"jaxnas.{module} may not import {', '.join(sorted(wrong))}; its row: {ALLOWED[module]}."


def test_the_runner_does_not_know_the_command_line():
    assert "cli" not in inside("runner", ast.walk(tree("runner")))


@pytest.mark.parametrize("module", OUTSIDE)
def test_pure_modules_import_nothing_more(module):
    packages = {name.partition(".")[0] for name in imported(module, ast.walk(tree(module)))} - {"jaxnas"}
    assert packages - sys.stdlib_module_names <= OUTSIDE[module]
    assert "jax" in packages  # the file was read


@pytest.mark.parametrize("module", [name for name in FILES if name not in ("terminal", "notebook")])
def test_no_text_reaches_rich_but_by_the_terminal(module):
    """Rich takes brackets and colons of a user's names for markup, and cuts what is wider than the console."""
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Attribute) and call.attr == "print"]
    doors = {"rich.table.Table", "rich.table.Column", "rich.markup.escape", "rich.progress.TextColumn"}
    doors |= {"rich.live.Live", "rich.markdown.Markdown"}
    allowed: dict[str, set[str]] = {}
    assert imported(module, ast.walk(tree(module))) & doors <= allowed.get(module, set())


@pytest.mark.parametrize("module", FILES)
def test_no_heavy_import_and_no_print(module):
    """TensorFlow and PyTorch are imported where they are used; only what faces the user prints."""
    top = {name.partition(".")[0] for name in imported(module, at_import(tree(module).body))}
    assert not top & {"tensorflow", "tensorflow_datasets", "torch", "torchvision"}
    if module not in MAY_PRINT:
        calls = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
        lines = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not lines, f"jaxnas.{module} prints in lines {lines}; only {', '.join(MAY_PRINT)} may."


def at_import(body):
    """Statements that run when a module is imported: everything but the bodies of functions."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from at_import([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
            yield from at_import(getattr(node, "handlers", []))


@pytest.mark.parametrize("module", FILES)
def test_no_file_is_long(module):
    limit = 450 if module == "strategies.algorithms" else 300  # the table is one page, however many rows it has
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= limit


def test_the_checks_see_every_form_of_import():
    nodes = ast.parse(
        "import jaxnas.search\nfrom jaxnas.spaces import ops\nfrom jaxnas.spaces.space import Space\n"
        "from . import data\nfrom .spaces.plan import plan\nif True:\n    import torch.nn\n"
        "try:\n    pass\nexcept ImportError:\n    import tensorflow\ndef f():\n    import os\n"
    ).body
    assert inside("search", nodes) == {"search", "spaces.ops", "spaces.space", "data", "spaces.plan"}
    names = imported("search", at_import(nodes))
    assert {"torch.nn", "tensorflow"} <= names and "os" not in names
