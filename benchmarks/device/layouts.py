"""The layouts and the formulations of depthwise convolutions that a device is asked to compare: one table of each.

Loads no JAX: the command lists names, and only the process that measures one makes it.
"""

import contextlib
from collections.abc import Callable
from typing import Any


def _in_shifts() -> contextlib.AbstractContextManager[Any]:
    from jaxnas.spaces.depthwise import in_shifts

    return in_shifts()


DEFAULT = "default"
LAYOUTS: dict[str, Callable[[Any], Any]] = {  # name -> (module jaxnas.spaces.layout) -> Layout
    DEFAULT: lambda layout: layout.default(),
    "recomputed-side-by-side": lambda layout: layout.for_accelerators(layout.computed_again),
    "cells-in-a-loop": lambda layout: layout.for_accelerators()._replace(cells=1),
    "edges-in-a-loop": lambda layout: layout.Layout(),
    "fanned": lambda layout: layout.Layout(layout.fanned()),
    "fanned-kept": lambda layout: layout.Layout(layout.fanned(layout.kept)),
    "products-kept": lambda layout: layout.Layout(layout.scanned(1, layout.products_kept)),
}
DEPTHWISE: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {  # name -> what tracing stands in
    DEFAULT: contextlib.nullcontext,
    "shifts": _in_shifts,
}
