"""What all devices and processes of one search must have alike, and what they find out together.

Where in the river: beside it, as `parallel`. Knows copies of arrays and processes; no step, no placement.
"""

import hashlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


class Disagreement(RuntimeError):
    """Copies of alpha that must be equal are not."""


def check_copies(tree: Any, what: str) -> None:
    """Compares the copies of a replicated pytree, bit by bit, on all devices of all processes.

    Args:
      tree: arrays as a placement's program returns them.
      what: its name, for the error.

    Raises:
      Disagreement: says which device holds other bits than the first.
    """
    digests = _digests(tree)
    ids = list(digests)
    table = multihost_utils.process_allgather(np.stack([np.array([i, *digests[i]], np.int32) for i in ids]))
    table = np.asarray(table).reshape(-1, table.shape[-1])
    other = sorted({int(row[0]) for row in table if not np.array_equal(row[1:], table[0][1:])})
    if other:
        raise Disagreement(
            f"{what} on the devices {other} differs from {what} on device {int(table[0][0])}, bit by bit: they no "
            "longer run the same search, so its numbers mean nothing. Go on from the last state on disk, with "
            "--devices one if it happens again."
        )


def _digests(tree: Any) -> dict[int, np.ndarray]:
    """Device -> sha256 of its copies, as bytes."""
    seen: dict[int, Any] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            seen.setdefault(shard.device.id, hashlib.sha256()).update(np.asarray(shard.data).tobytes())
    return {device: np.frombuffer(found.digest(), np.uint8) for device, found in seen.items()}


def agreed(number: int) -> int:
    """The number of process 0, where each might have found another: a time, a decision.

    Args:
      number: this process's own.
    """
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def everywhere(here: bool) -> bool:
    """Whether something holds in all processes.

    Args:
      here: whether it holds in this one.
    """
    return int(summed(np.array([not here], np.int64))[0]) == 0


def summed(counts: np.ndarray) -> np.ndarray:
    """The sum over all processes of integers that each has counted, exactly.

    Args:
      counts: int64 of any shape.
    """
    if jax.process_count() == 1:
        return counts
    sent = counts.astype("<i8").reshape(-1).view(np.uint8)  # devices have no 64 bits
    parts = np.asarray(multihost_utils.process_allgather(sent)).reshape(-1, sent.size)
    return np.ascontiguousarray(parts).view("<i8").sum(0).reshape(counts.shape)
