"""A run's folder taken, and what a resumed run starts from: the newest epoch that can be read, a part of the next.

Where in the river: around it, before the runner's loop. Says what it could not read.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxnas import checkpoint, folder, interruption, parallel
from jaxnas.continuing import SET
from jaxnas.folder import Record
from jaxnas.interruption import Part
from jaxnas.search import SearchState
from jaxnas.spaces.space import CellGates, Gates
from jaxnas.terminal import warn

AHEAD = 2  # a run has written the record of an epoch, and its last state but one perhaps not yet


@contextlib.contextmanager
def opened(
    out: Path,
    config: Mapping[str, Any],
    resume: bool,
    console: Console,
    finished: Callable[[Path], int] = folder.finished,
) -> Iterator[list[Record]]:
    """The records so far of a run whose folder is ours; of several processes the first holds and mends it, all read.

    Args:
      out, config, resume, console: the run's folder, what was asked for, whether it goes on, where warnings are told.
      finished: number of epochs that are on record in a folder.

    Raises:
      OSError: where another run or process has the folder.
      ValueError: where the run was started otherwise, or its states are gone.
    """
    leads = parallel.leads()
    if leads:
        with folder.explained(out):
            (folder.check_same if resume else folder.claim)(out, config)
    with folder.held(out) if leads else contextlib.nullcontext():
        records = recovered(out, console, finished(out)) if resume and leads else []
        if resume and leads:
            _lengthen(out, config, records)
        parallel.wait("the folder is ours")
        yield folder.read_records(out) if resume and not leads else records


def _lengthen(out: Path, config: Mapping[str, Any], records: list[Record]) -> None:
    """Where more epochs of a search are asked for: puts that on record, and opens its last epoch again, if it was over.

    What had been found by then is kept beside the new result. The last of the records is changed.
    """
    before, asked = json.loads((out / "config.json").read_text(encoding="utf-8")), config.get("epochs")
    last = records[-1] if records else {}
    if before.get("epochs") != asked:
        if "stopped" in last:
            raise ValueError(f"a rule ended the search in {out} at epoch {len(records)}: more epochs change nothing.")
        if (out / "result.json").exists():
            shutil.copy(out / "result.json", out / f"result-{len(records)}.json")
        now = {name: config[name] for name in ("epochs", SET, folder.ASKED) if name in config}
        folder.write(out / "config.json", json.dumps({**before, **now}, indent=2) + "\n")
    if last.get("stage_ended") and "stopped" not in last and asked and len(asked) == 1 and asked[0] > len(records):
        last["stage_ended"] = False
        folder.write(out / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def saving(out: Path, kept: int) -> contextlib.AbstractContextManager[Callable[[int, Any], None]]:
    """`checkpoint.saving` in a run's folder; of several processes only the first one writes."""
    if parallel.leads():
        return checkpoint.saving(out / "checkpoints", kept)
    return contextlib.nullcontext(lambda epoch, state: None)


def scores_after(out: Path, epoch: int) -> CellGates:
    """The scores at the end of an epoch, from disk, where gates of edges are not kept: they are ones."""
    tables = {cell: table[epoch - 1] for cell, table in folder.read_scores(out).items()}
    return {cell: Gates(table, table[:, 0] * 0 + 1) for cell, table in tables.items()}


def recovered(out: Path, console: Console, finished: int) -> list[Record]:
    """The records of the epochs up to the newest that is on record and has an intact state.

    Args:
      out, console: the run's folder, and where it is told what is damaged or missing.
      finished: epochs that are on record.

    Raises:
      ValueError: where an older state is needed than those that are kept, or none is left of a run that had some.
    """
    states = out / "checkpoints"
    had_some = (out / "result.json").exists() or not states.exists() or finished > AHEAD
    if finished and had_some and not checkpoint.latest(states):
        raise ValueError(
            f"{finished} finished epochs are on record in {out}, and no state is left in {states}: copy the states "
            "back, or start the run anew in another folder with --out. Nothing was changed."
        )
    epoch, bad = checkpoint.newest(states, finished)
    for number, why in bad.items():
        warn(console, f"the state of epoch {number} is damaged ({why}): going on {_after(epoch)}.")
    if not bad and finished > max(epoch, 1):
        told = f"{finished} epochs are on record, and the newest state is of epoch {epoch}"
        warn(console, f"{told if epoch else 'the run ended before its first state'}: going on {_after(epoch)}.")
    with folder.explained(out):
        return folder.rewind(out, epoch)


def unfinished(out: Path, console: Console, epochs: int, steps: int, like: SearchState) -> Part | None:
    """What a signal left of the epoch behind so many finished ones, or None.

    Args:
      out, console: the run's folder, and where a damaged state is told.
      epochs: finished ones.
      steps: in an epoch.
      like: shapes of the state.
    """
    try:
        return interruption.recall(out, epochs, steps, like)
    except ValueError as error:
        warn(console, f"{error}: going on {_after(epochs)}.")
        if parallel.leads():
            interruption.forget(out)
        return None


def _after(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "at the beginning"


def last_words(error: Exception, out: Path, epoch: int) -> str:
    """What to say of a search that diverged in an epoch: where it stands, and what helps."""
    kept = (
        f"the state after epoch {epoch - 1} is kept in {out / 'checkpoints'}" if epoch > 1 else "no epoch was finished"
    )
    return f"{error}, in epoch {epoch}; {kept}. Look at the images' scale and labels, or lower the learning rate."
