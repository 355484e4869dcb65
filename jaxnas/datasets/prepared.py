"""Image-classification sets of TensorFlow Datasets (TFDS), read into numpy arrays without TensorFlow.

Where in the river: above the spring, only `data` calls it. This file knows TFDS, its folders and the hosts it
downloads from; no jax, no batches, no split. TFDS is imported inside the functions: a run on other data does
not pay for it.
"""

import contextlib
import difflib
import json
import logging
import os
import re
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas.datasets.stored import Stored

Part = tuple[Any, Any]  # uint8 [N, H, W, C], numpy or `Stored`; numpy int32 [N]
Source = Callable[..., Any]  # decoders, by the names of features -> the records of a split

_CHUNK = 512  # records read at once
_PATIENCE = 5.0  # seconds that a host may take to answer


def read(name: str, data_dir: str | os.PathLike | None = None) -> tuple[tuple[Part, ...], int, str]:
    """The parts of a TFDS set, training and then held-out if it has one, its number of classes, and its own name.

    The held-out part is the split "test", else "validation". One thread reads: decoding holds the
    interpreter's lock, more threads were slower.

    Args:
      name: as TFDS names it: "cifar10", "name/config", "name:version".
      data_dir: where the sets are, by default ~/tensorflow_datasets.

    Raises:
      ValueError: for an unknown name, a set without single images and class labels, or images of differing
        sizes.
      FileNotFoundError: where the set is not there and cannot be prepared.

    Source: https://www.tensorflow.org/datasets/data_source
    """
    return _parts(name, data_dir, _decoded)


def opened(name: str, data_dir: str | os.PathLike | None = None) -> tuple[tuple[Part, ...], int, str]:
    """As `read`, but only labels are read: images are `Stored`, and decoded when their rows are asked for."""
    return _parts(name, data_dir, _stored)


def _parts(name: str, data_dir: str | os.PathLike | None, part: Callable[[str, Source], Part]):
    builder = _builder(name, data_dir)
    classes, name = _classes(name, builder), _own_name(name, builder)
    with _quiet():
        splits = _prepared_splits(name, builder, data_dir)
        if "train" not in splits:
            raise ValueError(f"{name} has the splits {', '.join(splits)}; a search needs 'train'.")
        wanted = ("train", *[split for split in ("test", "validation") if split in splits][:1])
        parts = tuple(part(f"{name}, {split}", partial(builder.as_data_source, split)) for split in wanted)
        return parts, classes, name


def prepared_sets(data_dir: str | os.PathLike | None = None) -> list[dict[str, Any]]:
    """Name, sizes and place of every image set that lies ready in a folder; none where there is no such folder.

    Args:
      data_dir: where TFDS keeps its sets, by default ~/tensorflow_datasets.
    """
    place = Path(os.path.expanduser(data_dir or "~/tensorflow_datasets"))
    paths = (place.glob(f"{depth}/dataset_info.json") for depth in ("*/*", "*/*/*"))  # name[/config]/version
    found = [_on_record(path.parent, place) for some in paths for path in sorted(some)]
    return [one for one in found if one]


def _on_record(folder: Path, place: Path) -> dict[str, Any] | None:
    """What TFDS wrote about a prepared set; none where it is no set of images with labels."""
    try:
        told = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        features = json.loads((folder / "features.json").read_text(encoding="utf-8"))["featuresDict"]["features"]
        sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in told["splits"]}
        image, label = features["image"]["image"]["shape"]["dimensions"], features["label"]["classLabel"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    held = next((sizes[name] for name in ("test", "validation") if name in sizes), 0)
    numbers = {"train": sizes.get("train", 0), "test": held, "image": [int(side) for side in image]}
    name = folder.parent.relative_to(place).as_posix()
    return {"name": name, **numbers, "classes": int(label["numClasses"]), "place": str(folder)}


def _builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        head = re.split("[/:]", name)[0]
        plain = lambda text: re.sub("[^a-z0-9]", "", text.lower())
        if alike := [one for one in known if plain(one) == plain(head) and one != head]:
            return _builder(alike[0] + name[len(head) :], data_dir)
        close = difflib.get_close_matches(head.lower(), known, n=5)
        meant = f"did you mean {', '.join(close)}? " if close else ""
        meant = f"{name} is a folder here: write {name}/ to read its images. " if Path(name).is_dir() else meant
        raise ValueError(
            f"no data set {name!r} ({_first_line(error)}); {meant}Possible are 'digits' (embedded), a path "
            f"that ends in .npz, and the {len(known) - 1} sets of TFDS (tensorflow_datasets.list_builders())."
        ) from error


def _own_name(name: str, builder: Any) -> str:
    """TFDS takes MNIST for mnist; what a set is called decides how it is augmented, and belongs into records."""
    head = re.split("[/:]", name)[0]
    return getattr(builder, "name", head) + name[len(head) :]


def _classes(name: str, builder: Any) -> int:
    features = builder.info.features
    names = tuple(getattr(features, "keys", tuple)())
    if not {"image", "label"} <= set(names):
        raise ValueError(f"{name} has the features {', '.join(names)}; 'image' and 'label' are needed.")
    if not getattr(features["label"], "num_classes", None):
        raise ValueError(f"{name} has labels {features['label']}; they must be a class label with known classes.")
    return int(features["label"].num_classes)


def _prepared_splits(name: str, builder: Any, data_dir: str | os.PathLike | None) -> tuple[str, ...]:
    """Names of the splits on disk; downloads and prepares the set where it is not there."""
    try:
        if not Path(builder.data_dir).is_dir():
            _prepare(builder, data_dir)
        builder.as_data_source("train" if "train" in builder.info.splits else None)
    except Exception as error:
        place = f", data_dir={str(data_dir)!r}" if data_dir is not None else ""
        raise FileNotFoundError(
            f"data set {name!r} is not ready in {builder.data_dir}, and could not be prepared there "
            f"({type(error).__name__}: {_first_line(error)}). Pass the folder that holds it "
            "(--data-dir, data_dir=); or prepare it in array_record format, into a folder where it is not "
            "yet, on a machine with a network (and TensorFlow, which some sets need): "
            f'python -c "import tensorflow_datasets as t; t.builder({name!r}{place}).download_and_prepare('
            "file_format='array_record')\"; or use 'digits', which is embedded."
        ) from error
    return tuple(builder.info.splits)


def _prepare(builder: Any, data_dir: str | os.PathLike | None) -> None:
    downloads = Path(os.path.expanduser(data_dir or "~/tensorflow_datasets")) / "downloads"
    if not (downloads.is_dir() and any(downloads.iterdir())):
        _reach(builder.url_infos or ())
    with contextlib.redirect_stdout(sys.stderr):
        builder.download_and_prepare(file_format="array_record")


def _reach(urls: Iterable[str]) -> None:
    """Raises OSError in seconds where no download can work; TFDS alone would try again for minutes."""
    if {"http", "https", "all"} & set(urllib.request.getproxies()):
        return
    parts = [urllib.parse.urlsplit(url) for url in urls]
    hosts = {(p.hostname, p.port or {"http": 80, "ftp": 21}.get(p.scheme, 443)) for p in parts if p.hostname}
    for host, port in sorted(hosts):
        try:
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except OSError as error:
            raise OSError(f"no connection to {host}: {error}") from error


def _decoded(where: str, source: Source) -> Part:
    records = source()
    return _decode(where, records, np.arange(len(records)), _first(where, records))


def _stored(where: str, source: Source) -> Part:
    import tensorflow_datasets as tfds

    records, undecoded = source(), source(decoders={"image": tfds.decode.SkipDecoding()})
    first, rows = _first(where, records), np.arange(len(records))
    label = np.array([item["label"] for item in _items(undecoded, rows)], np.int32)
    read = lambda rows: _decode(where, records, rows, first)[0]
    return Stored(read, rows, first.shape, first.dtype), label


def _first(where: str, records: Sequence[dict[str, Any]]) -> np.ndarray:
    if not len(records):
        raise ValueError(f"{where} is empty; prepare the set again.")
    return np.asarray(records[0]["image"])


def _decode(where: str, records: Sequence[dict[str, Any]], rows: np.ndarray, first: np.ndarray) -> Part:
    image, label = np.empty((len(rows), *first.shape), first.dtype), np.empty(len(rows), np.int32)
    for at, item in enumerate(_items(records, rows)):
        if item["image"].shape != first.shape:
            raise ValueError(
                f"{where}: image 0 is {first.shape} and image {rows[at]} is {item['image'].shape}; all images "
                "must have one size: resize them and give them as an .npz file."
            )
        image[at], label[at] = item["image"], item["label"]
    return image, label


def _items(records: Any, rows: np.ndarray) -> Iterator[dict[str, Any]]:
    for start in range(0, len(rows), _CHUNK):
        yield from records.__getitems__(rows[start : start + _CHUNK].tolist())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS' advice (such as to install OpenCV) off the screen; errors still show."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
