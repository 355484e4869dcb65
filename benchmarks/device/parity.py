"""The numbers of the official codes, computed on the device in float64 or float32."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.child import ROOT
from benchmarks.device.facts import facts
from benchmarks.device.speaker import Speaker

# float32 resolves 6e-8 of a number, and a network's sums lose some digits more
FLOAT32 = 1e-4
# the worst of hundreds of weights: gradients that vanish but for rounding are compared with 1e-6 of the whole one
FLOAT32_WORST = 0.5
WORST = ("weight gradients", "weight gradient norms")


def measure(given: Mapping[str, Any], rows: tuple[str, ...], say: Speaker) -> None:
    """Compares files of official numbers.

    Args:
      given: the precision.
      rows: names of fixtures.
      say: what is told, a row for each fixture.
    """
    jax.config.update("jax_enable_x64", given["precision"] == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    say.facts(facts())
    sys.path.append(str(ROOT / "tests"))
    import parity

    for row in rows:
        say.begin(row)
        began = time.monotonic()
        found = compared(parity.compare, row, given["precision"])
        say.row(row, {**found, "seconds": time.monotonic() - began})


def compared(compare: Callable[[Path], Iterable[Any]], row: str, precision: str) -> dict[str, Any]:
    """What one file of official numbers says; a program that the compiler refuses is an answer too."""
    try:
        return verdict(list(compare(ROOT / "tests" / "fixtures" / row)), precision)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0][:500]}"}


def verdict(lines: Sequence[Any], precision: str) -> dict[str, Any]:
    """How many quantities agree, and which do not."""
    limits = [limit(line, precision) for line in lines]
    misses = [told(line, most) for line, most in zip(lines, limits, strict=True) if not line.error <= most]
    return {"compared": len(lines), "agree": len(lines) - len(misses), "misses": misses[:10]}


def limit(line: Any, precision: str) -> float:
    """The largest relative error that is allowed; that of the file's own comparison in float64."""
    if precision == "float64" or not line.tolerance:
        return line.tolerance
    return FLOAT32_WORST if any(name in line.name for name in WORST) else FLOAT32


def told(line: Any, most: float) -> dict[str, Any]:
    """A quantity that misses."""
    return {"name": line.name, "error": line.error, "allowed": most}
