"""Memory that a process really takes, from what Linux tells about it."""

import ctypes
import gc
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int | None:
    """Resident bytes now; None where the system does not tell."""
    return _field("VmRSS")


def peak() -> int:
    """Largest resident bytes since the last `reset`, or so far."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return _field("VmHWM") or largest


def _field(name: str) -> int | None:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found.group(1)) * 1024 if found else None


def reset() -> bool:
    """Gives freed memory back to the system and starts the peak anew; False where that is not possible."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def working(run: Callable[[], Any]) -> int | None:
    """Bytes that a call takes above what is resident before it: its temporaries; None where nothing tells."""
    if not reset():
        return None
    before = resident()
    run()
    return None if before is None else max(0, peak() - before)
