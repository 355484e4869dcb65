"""Compiled programs on disk, from one process to the next: where they are kept, and whether one was found there.

Where in the river: under everything that is compiled. Knows JAX's settings and its events; no program.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"
SHORT = 1.0  # seconds; what compiles faster is not kept


def keep_programs(folder: Path | str | None = None) -> Path | None:
    """Keeps compiled programs in a folder, so that the second start is quick; settings of JAX's own win.

    `run`, `fit` and the command line call it. To keep nothing, set JAX's `jax_enable_compilation_cache` to False.

    Args:
      folder: where; `jaxnas/xla` in $XDG_CACHE_HOME or ~/.cache unless given.

    Returns:
      The folder that is in force; None where there is none: a user without a home has no cache.
    """
    set_before = os.environ.get("JAX_COMPILATION_CACHE_DIR") or jax.config.values.get("jax_compilation_cache_dir")
    if set_before:
        return Path(set_before)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if folder is None and base.startswith("~"):
        return None
    place = Path(folder) if folder is not None else Path(base) / "jaxnas" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORT)
    return place


@contextlib.contextmanager
def noticed() -> Iterator[Callable[[], str]]:
    """A function that says in words where the programs since the beginning came from, and how long that took."""
    seen: Counter[str] = Counter()

    def hear(event: str, **_: object) -> None:
        seen[event] += 1

    began = time.perf_counter()

    def told() -> str:
        seconds = f"{time.perf_counter() - began:.0f} s"
        if seen[HIT] and not seen[MISS]:
            return f"found among the compiled programs on disk, in {seconds}"
        return f"compiled in {seconds}" + ("; the next start finds it on disk" if seen[MISS] else "")

    jax.monitoring.register_event_listener(hear)
    try:
        yield told
    finally:
        jax.monitoring.unregister_event_listener(hear)
