"""Pictures, files or bytes of them, as pixels of one shape: decoded by threads, so many at a time.

Where in the river: above the spring, under `folders` and `huggingface`. Knows Pillow; no classes, no split.

Images are grey if all are, else RGB; transparency is put on black. Images of one size stay as they are. Where sizes
differ, each is scaled until its shorter side is S pixels (bilinear, antialiased), and the S x S pixels in the middle
are kept; S is the largest of 32, 64, 128 and 224 that is at most the median of the shorter sides, and 32 where that is
smaller.
"""

import io
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Opened

SIDES = (32, 64, 128, 224)
GREY = ("1", "L", "LA", "I", "I;16", "F")  # modes of Pillow
THREADS = min(16, os.cpu_count() or 1)
TOGETHER = 16  # pictures that a thread takes

Tell = Callable[[str, int, int], None]  # (what is done, how many of it, of how many) -> shown somewhere


class Found(NamedTuple):
    """A picture that is not decoded."""

    at: int  # its place among those asked for
    name: str  # what it is called where it is damaged
    content: str | bytes  # path of its file, or what stands in it


class Form(NamedTuple):
    """What all pictures of a set are brought to."""

    shape: tuple[int, int, int]  # [H, W, C]
    scaled: bool  # whether their sizes differ


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""
    del what, done, total


def form(pictures: Iterable[Found], count: int, tell: Tell = silent) -> Form:
    """The form that a set is brought to; only the heads of its pictures are read.

    Args:
      pictures: all of them.
      count: their number.
      tell: called now and then.

    Raises:
      ValueError: for one that is no picture, by its name.
    """
    heads = np.empty((count, 3), np.int32)  # height, width, grey

    def look(one: Found) -> None:
        with _opened(one) as image:
            heads[one.at] = image.height, image.width, image.mode in GREY

    _each(look, pictures, lambda done: tell("looking at the pictures", done, count))
    channels = 1 if heads[:, 2].all() else 3
    if (heads[:, :2] == heads[0, :2]).all():
        return Form((int(heads[0, 0]), int(heads[0, 1]), channels), False)
    middle = float(np.median(heads[:, :2].min(1)))
    side = max((side for side in SIDES if side <= middle), default=SIDES[0])
    return Form((side, side, channels), True)


def decoded(pictures: Iterable[Found], count: int, form: Form) -> np.ndarray:
    """Their pixels, uint8 [count, H, W, C].

    Args:
      pictures: in any order; each knows its place.
      count: their number.
      form: of the set.

    Raises:
      ValueError: for one that is damaged or gone, by its name.
    """
    image = np.empty((count, *form.shape), np.uint8)

    def fill(one: Found) -> None:
        with _opened(one) as found:
            image[one.at] = _pixels(found, one.name, form)

    _each(fill, pictures, lambda done: None)
    return image


def _each(work: Callable[[Found], None], pictures: Iterable[Found], told: Callable[[int], None]) -> None:
    """Works on each in threads, which let go of the interpreter while they decode; few wait in memory."""
    rest, waiting, done = iter(pictures), deque[tuple[int, Future[None]]](), 0

    def together(some: list[Found]) -> None:
        for one in some:
            work(one)

    with ThreadPoolExecutor(THREADS, "pictures") as pool:
        while True:
            if some := list(islice(rest, TOGETHER)):
                waiting.append((len(some), pool.submit(together, some)))
            elif not waiting:
                return
            if not some or len(waiting) > 2 * THREADS:
                count, future = waiting.popleft()
                future.result()
                told(done := done + count)


def _pixels(image: "Opened", name: str, form: Form) -> np.ndarray:
    from PIL import Image

    height, width, channels = form.shape
    try:
        if image.mode in ("I", "I;16", "F"):  # 16 bits
            image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError) as error:  # Pillow says SyntaxError to a broken PNG
        raise ValueError(f"{name} is damaged ({error}): mend or remove it.") from error
    if form.scaled:
        ratio = height / min(image.size)
        wide, high = (max(height, round(side * ratio)) for side in image.size)
        left, top = (wide - width) // 2, (high - height) // 2
        image = image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    if image.size != (width, height):
        raise ValueError(f"{name} is {image.height} x {image.width} now, and was {height} x {width}: put it back.")
    return np.asarray(image).reshape(height, width, channels)


def _opened(one: Found) -> "Opened":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(one.content if isinstance(one.content, str) else io.BytesIO(one.content))
    except FileNotFoundError as error:
        raise ValueError(f"{one.name} is gone: put it back; a run goes on with --resume then.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{one.name} is no image that can be read ({error}): mend or remove it.") from error
