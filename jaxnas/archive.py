"""Arrays out of `.npz` files that may hold anything: what a header claims is checked before memory is taken.

Where in the river: above the spring. Knows zip files and numpy's format; never a pickle, and no path of an archive.
"""

import contextlib
import errno
import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnas.memory import free_here, size

_DENSEST = 1032  # bytes that one byte of a deflated file can stand for
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def names(path: Path) -> list[str]:
    """What an archive holds, whatever it is.

    Raises:
      ValueError: where it is no archive.
      OSError: where the file cannot be opened.
    """
    with _explained(), zipfile.ZipFile(path) as archive:
        return sorted(info.filename.removesuffix(".npy") for info in archive.infolist())


def read(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive by name.

    Args:
      path: of the file.
      names: what is wanted, if it is there; everything unless given.

    Raises:
      ValueError: where it is no archive of plain numeric arrays, is damaged, or claims more than it holds or than fits
        into the memory that is free; says which.
      OSError: where the file cannot be opened.
    """
    with _explained(), zipfile.ZipFile(path) as archive:
        entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {name: entries[name] for name in (entries if names is None else names) if name in entries}
        for name, info in wanted.items():
            with archive.open(info) as stream:
                _check(name, info, stream)
        _check_room(sum(info.file_size for info in wanted.values()))
        return {name: _array(archive, info) for name, info in wanted.items()}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever the format of zip files, its codecs and numpy raise is a ValueError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the format of zip files, its codecs and numpy have a dozen of their own
        if isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)):
            raise  # EINVAL is what zipfile meets where a directory names a place in front of the file
        raise ValueError(str(error) or type(error).__name__) from error


def _check(name: str, info: zipfile.ZipInfo, stream: IO[bytes]) -> None:
    """Compares what the header of an array claims with what the archive holds."""
    version: Any = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{name} is written in version {version} of numpy's format; expected (1, 0) or (2, 0)")
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {dtype}, expected plain numbers")
    claimed, held = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(f"{name} claims {dtype}{list(shape)}, {claimed:,} bytes, where {held:,} are")
    if info.file_size > _DENSEST * (info.compress_size + 64):
        raise ValueError(f"{name} claims {info.file_size:,} bytes out of {info.compress_size:,}, which cannot be")


def _check_room(needed: int) -> None:
    free = free_here()
    if free is not None and needed > free:
        raise ValueError(f"its arrays need {size(needed)} of memory, and {size(free)} are free")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as stream:
        found = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # the end of the entry, where its checksum is compared
    return found
