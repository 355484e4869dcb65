"""Images as one file of their JPEG bytes, which travels easily and needs numpy and pillow only to be read.

A compressed .npz, since small JPEGs are mostly a header that all have alike: `bytes` uint8, all images one behind the
other; `offset` int64 [N + 1], where each begins; `label` int32 [N]; `name` and `classes` of the set. Only training
images are kept: what is measured with them trains.
"""

import io
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

FIELDS = ("bytes", "offset", "label", "name", "classes")
CHUNK = 2000  # images that a process decodes at once


class Packed(NamedTuple):
    """A set of images as JPEG bytes."""

    name: str
    classes: int
    jpegs: list[bytes]
    label: np.ndarray  # [N] int32


def write(path: Path, packed: Packed) -> int:
    """Writes the file; its bytes."""
    offset = np.cumsum([0, *map(len, packed.jpegs)], dtype=np.int64)
    joined = np.frombuffer(b"".join(packed.jpegs), np.uint8)
    names = {"name": np.str_(packed.name), "classes": np.int64(packed.classes)}
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez_compressed(file, bytes=joined, offset=offset, label=np.asarray(packed.label, np.int32), **names)
    os.replace(part, path)
    return path.stat().st_size


def size(jpegs: Sequence[bytes]) -> int:
    """Bytes that images take in a file, compressed."""
    return len(zlib.compress(b"".join(jpegs)))


def read(path: Path) -> Packed:
    """The set in a file.

    Raises:
      ValueError: it is not such a file; says what is wrong.
    """
    wrong = f"{path} is no file of packed images: make one by `python -m benchmarks.pack_images`"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in FIELDS}
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}: give that of `python -m benchmarks.pack_images`.") from None
    except (OSError, ValueError, KeyError, EOFError, IndexError) as error:
        raise ValueError(f"{wrong} ({error}).") from error
    offset, joined = found["offset"], found["bytes"].tobytes()
    if (
        offset.ndim != 1
        or len(offset) != len(found["label"]) + 1
        or offset[-1] != len(joined)
        or (np.diff(offset) < 1).any()
    ):
        raise ValueError(f"{wrong} (its offsets do not fit its bytes).")
    jpegs = [joined[a:b] for a, b in pairwise(offset.tolist())]
    return Packed(str(found["name"]), int(found["classes"]), jpegs, found["label"].astype(np.int32))


def pixels(jpegs: Sequence[bytes], processes: int) -> np.ndarray:
    """The images as uint8 [N, H, W, C], decoded by several processes.

    Raises:
      ValueError: images of different shapes.
    """
    chunks = [jpegs[at : at + CHUNK] for at in range(0, len(jpegs), CHUNK)]
    if processes < 2 or len(chunks) < 2:
        return np.concatenate([decoded(chunk) for chunk in chunks])
    with ProcessPoolExecutor(min(processes, len(chunks)), mp_context=get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(decoded, chunks)))


def decoded(jpegs: Iterable[bytes]) -> np.ndarray:
    """The images of some JPEGs, as uint8 [N, H, W, C]."""
    from PIL import Image

    images = [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]
    if len({image.shape for image in images}) > 1:
        raise ValueError("packed images have different shapes; pack images of one shape.")
    return np.stack([image if image.ndim == 3 else image[..., None] for image in images])


def encoder(quality: int) -> Callable[[np.ndarray], bytes]:
    """(pixels uint8 [H, W, 1 or 3]) -> JPEG bytes of a quality, 1 to 95."""
    from PIL import Image

    def encode(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, "JPEG", quality=quality)
        return out.getvalue()

    return encode
