"""What a run tells others while it runs: each epoch's record, as TensorBoard reads it.

Where in the river: outside. Knows records and arrays of scores; a function of this kind is given to `run(observe=...)`:

    with jn.logs.tensorboard("logs/a") as observe:
        jn.run(stages, space, data, key, out="runs/a", observe=observe)

Any other log is a function of two arguments, (record, scores): `lambda record, scores: client.log(record)`.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.runner import Observe

PIXELS = 16  # side of a gate in a heat map


@contextlib.contextmanager
def tensorboard(folder: Path | str) -> Iterator[Observe]:
    """Writes an epoch's numbers as scalars, and the scores of each cell type as histogram and heat map, by epoch.

    A heat map has a row for each edge and a column for each operation; black is 0, white 1. A resumed run goes on in
    the same folder and replaces what its curves had from there on.

    Args:
      folder: where TensorBoard looks: `tensorboard --logdir folder`.

    Raises:
      ImportError: without tensorboardX; says what to do.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        told = "logs for TensorBoard need tensorboardX: pip install 'jaxnas[tensorboard]', or leave out --tensorboard."
        raise ImportError(told) from error
    with contextlib.ExitStack() as stack:
        writers: list[Any] = []

        def observe(record: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
            if not writers:  # made late: only by the process that writes, and from the epoch where it goes on
                first = record["epoch"]
                writers.append(SummaryWriter(str(folder), purge_step=first, filename_suffix=f".from-epoch-{first}"))
                stack.callback(writers[0].close)
            _write(writers[0], record, scores)

        yield observe


def wanted(place: Path | str | None) -> contextlib.AbstractContextManager[Observe | None]:
    """`tensorboard(place)`, or nothing that observes.

    Args:
      place: a folder, or None.

    Raises:
      ImportError: for a folder, once entered, without tensorboardX.
    """
    return tensorboard(place) if place else contextlib.nullcontext()


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record under the names that group them: `train_loss` -> `loss/train`.

    Args:
      record: of one epoch.

    >>> scalars({"epoch": 3, "train_loss": 1.5, "skips": 2, "measured": {"curvature": 0.1}})
    {'loss/train': 1.5, 'alpha/skips': 2, 'measured/curvature': 0.1}
    """
    found = {f"measured/{name}": value for name, value in record.get("measured", {}).items()}
    named = {"alpha_entropy": "alpha/entropy", "skips": "alpha/skips"}
    named |= {name: f"run/{name}" for name in ("seconds", "images_per_second", "rate")}
    for name in record:
        player, _, measure = name.partition("_")
        if player in ("train", "valid"):
            named[name] = f"{measure}/{player}"
    return {named[name]: value for name, value in record.items() if name in named} | found


def heat_map(scores: Any) -> np.ndarray:
    """Scores [E, O] as a grey image, uint8 [16 E, 16 O]: 0 is black, 1 and above white.

    Args:
      scores: mean gates of one cell type.
    """
    grey = np.round(255 * np.clip(np.asarray(scores, float), 0, 1)).astype(np.uint8)
    return np.kron(grey, np.ones((PIXELS, PIXELS), np.uint8))


def _write(writer: Any, record: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    epoch = record["epoch"]
    for name, value in scalars(record).items():
        writer.add_scalar(name, value, epoch)
    for cell, table in scores.items():
        writer.add_histogram(f"alpha/{cell}", np.asarray(table), epoch)
        writer.add_image(f"heat_map/{cell}", heat_map(table), epoch, dataformats="HW")
    writer.flush()
