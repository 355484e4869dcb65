"""What a resumed run starts from: the newest epoch whose state can be read, and what was made of the next one.

Where in the river: around it, before the runner's loop. Says what it could not read.
"""

from pathlib import Path

from rich.console import Console

from jaxnas import checkpoint, folder, interruption, progress
from jaxnas.folder import Record
from jaxnas.interruption import Part
from jaxnas.search import SearchState


def recovered(out: Path, console: Console) -> list[Record]:
    """The records of the epochs up to the newest that has its record, its scores and an intact state.

    Raises:
      ValueError: where an older state is needed than those that are kept.
    """
    epoch, bad = checkpoint.newest(out / "checkpoints", folder.finished(out))
    for number, why in bad.items():
        progress.warn(console, f"the state of epoch {number} is damaged ({why}): going on {_after(epoch)}.")
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
        progress.warn(console, f"{error}: going on {_after(epochs)}.")
        interruption.forget(out)
        return None


def _after(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "at the beginning"
