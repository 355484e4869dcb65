"""The state of a search on disk, and back.

Where in the river: below it. Knows a pytree and a folder; not what the numbers mean. Orbax writes each state into a
folder of its own and gives it its name only when it is complete.
"""

import errno
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

KEPT = 2  # states kept unless told otherwise: the last one, and the one before in case the last is damaged


def save(folder: Path, epoch: int, state: Any, kept: int = KEPT) -> None:
    """Writes a state and returns when it is on disk.

    Args:
      folder: where states lie; made if missing.
      epoch: its number, counted from 1; a state of that number must not be there yet.
      state: a pytree of arrays; typed random keys are welcome.
      kept: states that stay in the folder, this one included.

    Raises:
      OSError: where the disk has no room for it.
    """
    needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(_plain(state)))
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed:  # told before orbax's threads fail one by one
        raise OSError(errno.ENOSPC, f"a state needs {needed:,} bytes in {folder}")
    with _manager(folder, kept) as manager:
        manager.save(epoch, args=ocp.args.StandardSave(_plain(state)))
        manager.wait_until_finished()


def latest(folder: Path) -> int | None:
    """The newest complete epoch in a folder, or None."""
    if not folder.exists():
        return None
    with _manager(folder) as manager:
        return manager.latest_step()


def restore(folder: Path, epoch: int, like: Any) -> Any:
    """The state of an epoch.

    Args:
      folder, epoch: where it lies.
      like: a pytree of the same structure, shapes and types (arrays or `jax.eval_shape` results).

    Raises:
      ValueError: where the state on disk has another structure or other shapes.
    """
    with _manager(folder) as manager:
        plain = manager.restore(epoch, args=ocp.args.StandardRestore(jax.eval_shape(_plain, like)))
    return jax.tree.map(_as_key, like, plain, is_leaf=_is_key)


def _manager(folder: Path, kept: int | None = None) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=kept, enable_async_checkpointing=False)
    return ocp.CheckpointManager(Path(folder).absolute(), options=options)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> Any:
    """Typed keys as the integers they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _as_key(like: Any, plain: Any) -> Any:
    return jax.random.wrap_key_data(plain) if _is_key(like) else plain
