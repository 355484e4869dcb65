"""The results on disk: one file, replaced as a whole after each row: a run that is killed leaves what it knew."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE, FORMAT = "results.json", 1
Results = dict[str, Any]  # {"format", "rehearsal", "machine", "items": {name: result}}


def opened(out: Path, rehearsal: bool) -> Results:
    """The results of a folder, which is made where there is none; proven to be writable.

    Raises:
      ValueError: the folder cannot be used; says why and what to do.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        results = read(out) or {"format": FORMAT, "rehearsal": rehearsal, "machine": {}, "items": {}}
        if results["rehearsal"] != rehearsal:
            kind, other = ("a rehearsal", "measurements") if rehearsal else ("measurements", "a rehearsal")
            raise ValueError(f"--out {out} holds {other}, this run makes {kind}: give another folder.")
        write(out, results)
    except OSError as error:
        raise ValueError(
            f"--out {out} is no folder that can be written to ({error.strerror or error}): give another one."
        ) from error
    return results


def read(out: Path) -> Results | None:
    """The results of a folder; None where there are none.

    Raises:
      ValueError: the file is not one of these.
    """
    path = out / FILE
    if not path.is_file():
        return None
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        sound = results["format"] == FORMAT and isinstance(results["items"], dict) and "rehearsal" in results
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path} is not a file of results of this command: give another folder, or remove it.")
    return results


def write(out: Path, results: Mapping[str, Any]) -> None:
    """Replaces the file at once, when the new one is on disk."""
    part = out / (FILE + ".part")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, out / FILE)


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this process alone, until it ends, however it ends.

    Raises:
      ValueError: another process has it.
    """
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ValueError(f"--out {out} is being written by another run: wait, or give another folder.") from error
    finally:
        os.close(handle)


def with_row(results: Results, item: str, row: str, value: Any) -> Results:
    """The results with one more row of an item."""
    told = results["items"].get(item, {"status": "begun", "rows": {}})
    return with_item(results, item, {**told, "rows": {**told["rows"], row: value}})


def with_item(results: Results, item: str, told: Mapping[str, Any]) -> Results:
    """The results with what is known of an item, in the place of what was."""
    return {**results, "items": {**results["items"], item: dict(told)}}
