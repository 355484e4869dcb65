"""What there is to choose from, told: rows of plain data for `jaxnas list`.

Where in the river: on the shore, beside `names`. Reads docstrings and numbers; prints nothing, runs nothing.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jaxnas import data
from jaxnas.datasets.prepared import prepared_sets
from jaxnas.evaluation.recipes import describe
from jaxnas.names import PUBLISHED, RECIPES, SPACES, STOPPED, STRATEGIES, SpaceChoice
from jaxnas.spaces.genotype import to_json
from jaxnas.table import section, told

Row = dict[str, Any]


def strategies(data_dir: Path | None = None) -> list[Row]:
    """Name, solver, what it is, and its paper, of every strategy."""
    del data_dir
    return [_strategy(name, make) for name, make in STRATEGIES.items()]


def spaces(data_dir: Path | None = None) -> list[Row]:
    """Name, sizes, and the defaults of the papers, of every space."""
    del data_dir
    return [_space(name, chosen) for name, chosen in SPACES.items()]


def datasets(data_dir: Path | None = None) -> list[Row]:
    """Name and numbers of images of the set in the package, and of those that are prepared in a folder."""
    digits = data.load("digits")
    sizes = {"train": len(digits.train.label), "test": len(digits.test.label)}
    image = list(digits.train.image.shape[1:])
    first = {"name": "digits", **sizes, "image": image, "classes": digits.classes, "place": "in the package"}
    return [first, *prepared_sets(data_dir)]


def genotypes(data_dir: Path | None = None) -> list[Row]:
    """Name, space and numbers of edges and skips, of every published genotype."""
    del data_dir
    return [
        {
            "name": name,
            "space": found.space,
            "cells": list(found.names),
            "edges": sum(len(found.edges(cell)) for cell in found.names),
            "skips": found.count("skip_connect"),
            "genotype": to_json(found),
        }
        for name, found in PUBLISHED.items()
    ]


def recipes(data_dir: Path | None = None) -> list[Row]:
    """Every number of every recipe."""
    del data_dir
    return [{**describe(recipe), "name": name} for name, recipe in RECIPES.items()]


KINDS: Mapping[str, Callable[[Path | None], list[Row]]] = {
    "strategies": strategies,
    "spaces": spaces,
    "datasets": datasets,
    "genotypes": genotypes,
    "recipes": recipes,
}
SHOWN = {  # columns of the tables; the rest is for JSON
    "strategies": ("name", "solver", "stop", "what", "paper"),
    "spaces": ("name", "cells", "nodes", "edges", "operations", "channels", "depth"),
    "datasets": ("name", "train", "test", "image", "classes", "place"),
    "genotypes": ("name", "space", "cells", "edges", "skips"),
    "recipes": ("name", "epochs", "batch", "rate", "weight_decay", "drop_path", "cutout", "auxiliary"),
}


def _strategy(name: str, make: Callable[..., Any]) -> Row:
    text = inspect.getdoc(make.func if isinstance(make, partial) else make) or ""
    source = section(text, "Reference")
    found = re.search(r"arXiv:[\d.]*\d", source)
    what = text.split("\n\n")[0].replace("\n", " ")
    return {
        "name": name,
        "solver": told(make(1000).solver),
        "stop": STOPPED.get(name, "never"),
        "what": what,
        "paper": found[0] if found else "",
        "source": source,
    }


def _space(name: str, chosen: SpaceChoice) -> Row:
    made = chosen.make(16, chosen.searched, 10, image=(32, 32, 3))
    sizes = {"cells": list(made.cells), "inputs": made.inputs, "nodes": len(made.nodes), "edges": len(made.edges)}
    searched = {"channels": 16, "depth": chosen.searched}
    network = dict(zip(("channels", "depth"), chosen.official, strict=True))
    return {"name": name, **sizes, "operations": list(made.op_names), **searched, "network": network}
