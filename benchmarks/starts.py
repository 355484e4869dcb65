"""How soon the first step is made: a first start, and a second one that finds the compiled program on disk.

Each start is a process of its own; both share a fresh folder of compiled programs.
"""

import json
import sys
import tempfile
import time
from typing import Any

from benchmarks.case import Case
from benchmarks.child import ask

WORTH_KEEPING = "1.0"  # seconds of compilation from which a program is kept, as the command line does


def starts(case: Case) -> dict[str, dict[str, float]]:
    """{"cold": ..., "second": ...}: seconds from the start of a process, and of each part of it."""
    with tempfile.TemporaryDirectory(prefix="jaxnas-start-") as cache:
        return {name: start(case, cache) for name in ("cold", "second")}


def start(case: Case, cache: str) -> dict[str, float]:
    """One start with a folder of compiled programs.

    Raises:
      RuntimeError: the process failed; ends with what it said.
    """
    keep = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": WORTH_KEEPING}
    try:
        return ask("benchmarks.starts", [case, time.time()], {**keep, "JAX_ENABLE_COMPILATION_CACHE": "true"})
    except RuntimeError as error:
        raise RuntimeError(f"a start of {case.strategy} on {case.space} failed: {error}") from None


def first_step(case: Case, spawned: float) -> dict[str, Any]:
    """Makes the first step; seconds of the parts, and from `spawned` (of `time.time()`) to its end.

    The first state's program is compiled beside the step: `init_seconds` are those that are still waited for.
    """
    import jax

    from benchmarks.build import build
    from benchmarks.measure import stepper, time_compilation, timed
    from jaxnas.epoch import compile_init

    imported = time.time() - spawned
    built, build_seconds = timed(lambda: build(case))
    key = jax.random.key(case.seed)
    draw = compile_init(built.search.init, key)  # beside the step, as a run does
    _, compiled, seconds = time_compilation(built.search, built.batches, key)
    state, init_seconds = timed(lambda: jax.block_until_ready(draw(key)))
    _, step_seconds = timed(stepper(compiled, state, built.batches))
    return {
        "import_seconds": imported,
        "build_seconds": build_seconds,
        **seconds,
        "init_seconds": init_seconds,
        "step_seconds": step_seconds,
        "total_seconds": time.time() - spawned,
    }


if __name__ == "__main__":
    given, began = json.loads(sys.argv[1])
    print(json.dumps(first_step(Case(*given), began)))
