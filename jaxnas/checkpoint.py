"""The state of a search on disk, and back.

Where in the river: below it. Knows a pytree and a folder; not what the numbers mean. Orbax writes each state into a
folder of its own and gives it its name only when it is complete. What is written are copies on the host, so that the
search may go on meanwhile and a state can be read on another number of devices; a digest of them lies beside, so that
what a disk has changed is not taken for a state. Orbax is imported where it is used: most programs keep no state.
"""

import contextlib
import errno
import glob
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
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
    with saving(folder, kept) as write:
        write(epoch, state)


@contextlib.contextmanager
def saving(folder: Path, kept: int = KEPT) -> Iterator[Callable[[int, Any], None]]:
    """A function like `save` that returns when the state is copied, and writes it meanwhile.

    A state is on disk when the next one is given, or when the block is left; what went wrong is raised there. It is
    read back then, and older states are deleted only after that.
    """
    import orbax.checkpoint as ocp

    folder.mkdir(parents=True, exist_ok=True)
    with _manager(folder, writes=True) as manager:
        given: list[int] = []  # not known to be readable yet

        def settle() -> None:
            manager.wait_until_finished()
            while given:
                if why := _fault(folder, epoch := given.pop()):
                    advice = "choose another folder with --out"
                    raise OSError(errno.EIO, f"the state of epoch {epoch} in {folder} cannot be read ({why}): {advice}")
                for old in sorted(manager.all_steps())[:-kept]:
                    manager.delete(old)

        def write(epoch: int, state: Any) -> None:
            sealed = _sealed(state)
            settle()
            needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(sealed))
            if shutil.disk_usage(folder).free < needed:  # told before orbax's threads fail one by one
                raise OSError(errno.ENOSPC, f"a state needs {needed:,} bytes in {folder}")
            manager.save(epoch, args=ocp.args.StandardSave(sealed))
            given.append(epoch)

        try:
            yield write
        finally:
            settle()


def latest(folder: Path) -> int | None:
    """The newest complete epoch in a folder, or None; see `newest` for one that is known to be intact."""
    return max(_epochs(folder), default=None)


def newest(folder: Path, most: int) -> tuple[int, dict[int, str]]:
    """The newest intact epoch, and what is wrong with later ones, which are put aside as `damaged-EPOCH`.

    Args:
      folder: where states lie.
      most: epochs that are known of; a later state has lost its record.

    Returns:
      (epoch, {damaged epoch: why}); epoch 0, before anything was run, where no state was ever followed by another.

    Raises:
      ValueError: where all states that were kept are damaged, and those before them are gone.
    """
    bad: dict[int, str] = {}
    for epoch in sorted(_epochs(folder), reverse=True):
        bad[epoch] = _fault(folder, epoch) if epoch <= most else "the record of this epoch is lost"
        if not bad[epoch]:
            del bad[epoch]
            break
    else:
        epoch = 0
        if bad and min(bad) > 1:
            told = "; ".join(f"epoch {number}: {why}" for number, why in bad.items())
            raise ValueError(f"no state in {folder} can be read ({told}): start the run anew in another folder.")
    for number in bad:
        shutil.rmtree(folder / f"damaged-{number}", ignore_errors=True)
        (folder / str(number)).rename(folder / f"damaged-{number}")
    return epoch, bad


def restore(folder: Path, epoch: int, like: Any) -> Any:
    """The state of an epoch.

    Args:
      folder, epoch: where it lies.
      like: a pytree of the same structure, shapes and types (arrays or `jax.eval_shape` results).

    Raises:
      ValueError: where the state on disk has another structure or other shapes, or is damaged.
    """
    import orbax.checkpoint as ocp

    plain = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), jax.eval_shape(_plain, like))
    with _manager(folder) as manager:
        found = manager.restore(epoch, args=ocp.args.StandardRestore({"state": plain, "digest": _digest(())}))
    _check(found, folder, epoch)
    for here, wanted in zip(jax.tree.leaves(found["state"]), jax.tree.leaves(plain), strict=True):
        if (here.shape, here.dtype) != (wanted.shape, wanted.dtype):
            told = f"{here.dtype}{list(here.shape)} where {wanted.dtype}{list(wanted.shape)} is wanted"
            raise ValueError(f"the state of epoch {epoch} in {folder} is of another search: {told}.")
    return jax.tree.map(_as_key, like, found["state"], is_leaf=_is_key)


def read(folder: Path, epoch: int) -> Any:
    """The state of an epoch as plain dicts and lists of numpy arrays; ValueError where it is damaged."""
    import orbax.checkpoint as ocp

    with _manager(folder) as manager:
        found = manager.restore(epoch, args=ocp.args.StandardRestore())
    _check(found, folder, epoch)
    return found["state"]


def _epochs(folder: Path) -> list[int]:
    if not folder.exists():
        return []
    with _manager(folder) as manager:
        return list(manager.all_steps())


def _fault(folder: Path, epoch: int) -> str:
    """What is wrong with a state, in a few words; nothing where it can be read."""
    try:
        read(folder, epoch)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # whatever orbax and its parts say to a damaged file
        return (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ""


@contextlib.contextmanager
def _manager(folder: Path, writes: bool = False) -> Iterator["ocp.CheckpointManager"]:
    import orbax.checkpoint as ocp

    alone: dict[str, Any] = {}
    if jax.process_count() > 1:  # one of them writes, each reads: orbax waits for no other
        me = jax.process_index()
        whom = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
        )
        alone = {"multiprocessing_options": whom, "create": False}
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=writes, cleanup_tmp_directories=writes, **alone)
    with _no_pattern(folder.absolute()) as path, ocp.CheckpointManager(path, options=options) as manager:
        yield manager


@contextlib.contextmanager
def _no_pattern(folder: Path) -> Iterator[Path]:
    """Another name of a folder whose own name is a pattern: orbax looks for its files by `glob`, and misses them there.

    In `lr=[0.1]` it would find no file of its own, in `a*b` those of `a+b` too.
    """
    if not glob.has_magic(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxnas-") as place:
        if glob.has_magic(place):
            raise OSError(errno.EINVAL, f"{folder} and {place} (TMPDIR) both hold one of * ? [: choose another folder")
        name = Path(place) / "states"
        name.symlink_to(folder, target_is_directory=True)
        yield name


def _sealed(state: Any) -> dict[str, Any]:
    """Copies on the host, with their digest: buffers on the device are given away to the next epoch."""
    copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), jax.device_get(_plain(state)))
    return {"state": copies, "digest": _digest(copies)}


def _digest(tree: Any) -> np.ndarray:
    """Sha256 of the leaves, whatever their order: orbax gives named tuples back as dicts."""
    told = lambda leaf: f"{leaf.dtype} {leaf.shape}".encode() + np.ascontiguousarray(leaf).tobytes()
    each = sorted(hashlib.sha256(told(np.asarray(leaf))).digest() for leaf in jax.tree.leaves(tree))
    return np.frombuffer(hashlib.sha256(b"".join(each)).digest(), np.uint8)


def _check(found: Any, folder: Path, epoch: int) -> None:
    if set(found) != {"state", "digest"} or not np.array_equal(_digest(found["state"]), found["digest"]):
        raise ValueError(f"the state of epoch {epoch} in {folder} is damaged: its numbers are not those written.")


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> Any:
    """Typed keys as the integers they are made of."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _as_key(like: Any, plain: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(plain)) if _is_key(like) else jnp.asarray(plain)
