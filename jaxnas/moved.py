"""Names that a package had once and that live elsewhere now.

Where in the river: outside, for those who wrote against an earlier version. Knows names only.
"""

import pkgutil
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved(package: str, places: Mapping[str, str], *, gone: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that still finds such names, with a DeprecationWarning that says where they live.

    Args:
      package: its name.
      places: name -> the module where it lives now.
      gone: the version from which on it is found there only.

    Raises:
      AttributeError: from the function that is given back, for any other name.
    """

    def find(name: str) -> Any:
        if name not in places:
            text = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(text, name=name, obj=sys.modules[package])
        text = f"{package}.{name} goes in version {gone}: write `from {places[name]} import {name}`."
        warnings.warn(text, DeprecationWarning, stacklevel=3)  # behind the `__getattr__` of the package
        return pkgutil.resolve_name(f"{places[name]}.{name}")

    return find
