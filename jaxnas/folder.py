"""A run's folder: what is written when, so that nothing is lost.

Where in the river: below it, beside `checkpoint`. Knows files and genotypes; no search. Layout:

    config.json     what was asked for; whoever creates it owns the folder
    metrics.jsonl   one line for each finished epoch, with its genotype
    scores.npz      scores of every epoch, {cell: [T, E, O]}
    genotype.json   the genotype of the last finished epoch; once the search is over, its answer
    checkpoints/    the whole state of the last epochs
    unfinished/     the state inside an epoch, where a signal ended the run there
    lock            held by the process that writes here
    result.json     what came out, once the search is over
    result-N.json   the same after N epochs, of a search that was made longer
    cells.png  alpha.png  curves.png  report.html
"""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import archive, continuing, fingerprint
from jaxnas.precision import UNSAID
from jaxnas.spaces.genotype import Genotype, read
from jaxnas.spaces.space import CellGates, Space

if sys.platform != "win32":  # there, nothing keeps two processes out of one folder
    import fcntl

Record = dict[str, Any]
ASKED = "options"  # what the command line was told; the settings that follow from it are compared


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns a full disk, or a folder that may not be written, into an error that says what to do."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            advice = f"no space left for the run in {folder}: free some, then go on with --resume."
            raise OSError(errno.ENOSPC, advice) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR):
            advice = f"{folder} cannot be written ({os.strerror(number)}): choose another folder with --out."
            raise OSError(number, advice) from error
        raise


def claim(folder: Path, config: Mapping[str, Any]) -> None:
    """Makes a folder this run's own.

    Raises:
      FileExistsError: where another run lives in it, or anything else lies there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        what = "a link to nothing" if folder.is_symlink() else "a file"
        raise FileExistsError(errno.EEXIST, f"{folder} is {what}: name a folder with --out.") from None
    if any(folder.iterdir()):
        told = f"{folder} is in use: choose another folder with --out, or continue the run in it with --resume."
        raise FileExistsError(errno.EEXIST, told)
    try:
        with open(folder / "config.json", "x", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2) + "\n")
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, f"{folder} was taken by another run at this moment.") from None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run's folder; the system lets go of it however this process ends.

    Raises:
      BlockingIOError: where another process holds it.
    """
    with contextlib.ExitStack() as stack:
        with explained(folder):
            file = stack.enter_context(open(folder / "lock", "a", encoding="utf-8"))
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another process is writing the run in {folder}: wait for its end, or choose another folder."
            raise BlockingIOError(errno.EAGAIN, text) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
                raise
        yield


def check_same(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuses to continue a run that was started with another configuration; a search may be longer than it was.

    Raises:
      ValueError: says which settings differ, and how.
      FileNotFoundError: where no run was started.
    """
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, f"no run to continue in {folder}: leave out --resume to start one.")
    if not path.read_bytes() and not (folder / "metrics.jsonl").exists():  # ended between the claim and its first line
        write(path, json.dumps(config, indent=2) + "\n")
    before, now = ({**UNSAID, **one, ASKED: None} for one in (_read_config(path), json.loads(json.dumps(config))))
    found = continuing.differing(before, now)
    if "split" in found and fingerprint.alike(*map(str, found["split"])):
        del found["split"]  # of a version that did not look at the pixels
    if found and not continuing.is_longer(found, before):
        raise ValueError(f"the run in {folder} was started otherwise: {continuing.told(found)}")


def read_genotype(what: str) -> Genotype:
    """A genotype from a run's folder, from a file, or from the text itself.

    Raises:
      FileNotFoundError: for a folder without one.
      ValueError: where it is none; says what is wrong.
    """
    path = Path(what)
    try:
        found = path / "genotype.json" if path.is_dir() else path
        if found.is_file():
            return read(found.read_text(encoding="utf-8"))
        if path.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"no genotype.json in {what}: is it the folder of a run?")
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not a text file; a genotype is JSON or one of the papers' notations.") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return read(what)


def _read_config(path: Path) -> Record:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): start the run anew in another folder.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold the settings of a run: start the run anew in another folder.")
    return found


def write(path: Path, text: str) -> None:
    """Replaces a file at once: readers see the old text or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def append(folder: Path, record: Record, scores: CellGates) -> None:
    """Adds a finished epoch: its line, its scores and its genotype."""
    history = read_scores(folder)
    grown = {cell: np.stack([*history.get(cell, ()), np.asarray(gates.ops)]) for cell, gates in scores.items()}
    _write_scores(folder, grown)
    log(folder, record)
    write(folder / "genotype.json", json.dumps(record["genotype"]) + "\n")


def log(folder: Path, record: Record) -> None:
    """Adds the line of a finished epoch."""
    lines = [json.dumps(old) for old in read_records(folder)]
    write(folder / "metrics.jsonl", "\n".join([*lines, json.dumps(record)]) + "\n")


def read_records(folder: Path | str) -> list[Record]:
    """The finished epochs, oldest first, up to the first line that is not the record of the next one.

    Such a line is one that a crash cut short, or a damaged file.
    """
    path = Path(folder) / "metrics.jsonl"
    records: list[Record] = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            record = json.loads(line.decode())
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or record.get("epoch") != len(records) + 1:
            break
        records.append(record)
    return records


def finished(folder: Path) -> int:
    """Number of epochs of which record and scores are on disk."""
    tables = read_scores(folder)
    return min(len(read_records(folder)), *map(len, tables.values())) if tables else 0


def answer(records: Sequence[Record]) -> Record:
    """The record whose genotype is the answer: that which the rule named, else the last."""
    chosen = records[-1].get("stopped", records[-1])["epoch"]
    return next(record for record in records if record["epoch"] == chosen)


def read_scores(folder: Path) -> dict[str, np.ndarray]:
    """{cell: [T, E, O]} of the finished epochs; {} where there are none; ValueError where the file is damaged."""
    path = folder / "scores.npz"
    if not path.exists():
        return {}
    try:
        return archive.read(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): start the run anew in another folder.") from error


def _write_scores(folder: Path, scores: Mapping[str, Any]) -> None:
    part = folder / "scores.part.npz"
    with open(part, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **scores)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / "scores.npz")


def rewind(folder: Path, epochs: int) -> list[Record]:
    """Forgets everything after so many epochs, and gives the records that stay."""
    records, scores = read_records(folder)[:epochs], read_scores(folder)
    if scores:
        _write_scores(folder, {cell: table[:epochs] for cell, table in scores.items()})
    write(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    return records


def branch(source: Path, target: Path, epochs: int, changes: Mapping[str, Any]) -> None:
    """A new run's folder that starts with the first epochs of another run, to go on with other settings.

    Args:
      source, target: folders; the target appears whole or not at all.
      epochs: epochs that are kept; the state after the last of them must lie in the source.
      changes: settings that differ.

    Raises:
      FileNotFoundError: where that state was not kept.
    """
    state = source / "checkpoints" / str(epochs)
    if not state.exists():
        told = f"{source} holds no state of epoch {epochs} to go back to: keep more states (kept=...)."
        raise FileNotFoundError(errno.ENOENT, told)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(state, part / "checkpoints" / str(epochs))
    shutil.copy(source / "scores.npz", part)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | dict(changes)
    write(part / "config.json", json.dumps(config, indent=2) + "\n")
    *before, last = read_records(source)[:epochs]
    last = {name: value for name, value in last.items() if name != "stopped"} | {"stage_ended": False}
    write(part / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in [*before, last]))
    rewind(part, epochs)
    os.replace(part, target)


def draw(
    folder: Path, space: Space, records: Sequence[Record], genotype: Genotype, undecided: float | None = None
) -> list[Path]:
    """Pictures of the answer's cells, of alpha over time and of the curves, with the entropy that is `undecided`."""
    from jaxnas import drawing  # and matplotlib

    figures = {
        "cells.png": drawing.draw_cells(genotype, space.inputs),
        "alpha.png": drawing.draw_alpha(read_scores(folder), space.op_names, space.edges, space.cells),
        "curves.png": drawing.draw_curves(records, undecided),
    }
    for name, figure in figures.items():
        drawing.save(figure, folder / name)
    return [folder / name for name in figures]


def draw_agreement(runs: Sequence[Path], out: Path) -> None:
    """Writes the picture of how far the answers' scores of several runs agree, seeds of one search say.

    Raises:
      FileNotFoundError: for a folder without a finished epoch.
    """
    from jaxnas import drawing  # and matplotlib

    drawing.save(drawing.draw_agreement({run.name: _answered(run) for run in runs}), out)


def _answered(run: Path) -> dict[str, np.ndarray]:
    """The scores of the epoch whose genotype is the answer."""
    records, scores = read_records(run), read_scores(run)
    if not records or not scores:
        raise FileNotFoundError(errno.ENOENT, "no finished epoch: is it the folder of a run?", str(run))
    return {cell: table[answer(records)["epoch"] - 1] for cell, table in scores.items()}
