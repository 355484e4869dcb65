"""Names of folders: one that is free, one that stays inside another.

Where in the river: below it, beside `folder`. Knows names; no file inside a folder.
"""

import contextlib
import errno
import re
import time
from pathlib import Path

from jaxnas.folder import explained


def fresh(*about: object, among: Path = Path("runs")) -> Path:
    """An empty folder that no other run has, made at this moment, called after the time and what the run is about.

    Args:
      about: parts of the name, plain or not; a number follows where the name is taken.
      among: where it lies.
    """
    words = (re.sub(r"[^\w.=,+-]+", "-", str(part)).strip("-.") for part in about)
    name = "-".join([time.strftime("%Y%m%d-%H%M%S"), *words])
    for number in range(1, 10_000):
        place = among / (name if number == 1 else f"{name}-{number}")
        with explained(place), contextlib.suppress(FileExistsError):
            place.mkdir(parents=True)
            return place
    raise FileExistsError(errno.EEXIST, f"{among} holds 10,000 folders called {name}: name another one with --out.")


def within(folder: Path, name: str) -> Path:
    """A folder inside another one; ValueError where the name leads elsewhere."""
    if name in ("", ".", "..") or Path(name).name != name or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} cannot be the name of a folder in {folder}: give a plain name.")
    return folder / name
