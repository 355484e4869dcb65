"""Packs the training images of a set into one file of JPEG bytes: `python -m benchmarks.pack_images SOURCE --out FILE`.

SOURCE is a folder of a prepared TFDS set (.../cifar10/3.0.2; needs tensorflow-datasets, but no TensorFlow), or an .npz
file with `image` uint8 [N, H, W, 1 or 3] and `label` [N]. Images that are stored as JPEG keep their bytes where these
fit into --most megabytes; others are encoded with the best quality that does. The file is what
`python -m benchmarks.device --images` takes, which needs neither TFDS nor the network.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import packed
from benchmarks.packed import FIELDS, Packed

QUALITIES = (95, 92, 90, 87, 85, 80, 75, 70, 60, 50)
MEGABYTES = 44.0
JPEG = b"\xff\xd8\xff"
OVERHEAD = 12  # bytes of offset and label, for each image
HEADERS = 600 * len(FIELDS)  # bytes at most, of the archive's parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Packs what the command line names; the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.out.is_dir() or not options.out.parent.is_dir():
            raise ValueError(f"--out {options.out}: give the name of a file in a folder that is there.")
        images, quality = pack(*load(options.source), int(options.most * 1e6))
        size = packed.write(options.out, images)
    except (ValueError, OSError, ImportError) as error:
        print(f"pack_images: {error}", file=sys.stderr)
        return 1
    how = "their own bytes" if quality is None else f"encoded with quality {quality}"
    print(f"written: {options.out}, {len(images.jpegs):,} images of {images.name}, {size / 1e6:.1f} MB, {how}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m benchmarks.pack_images", description=(__doc__ or "").split("\n\n")[0])
    made.add_argument("source", type=Path, help="folder of a prepared TFDS set, or an .npz file")
    made.add_argument("--out", type=Path, required=True, help="file to write")
    made.add_argument(
        "--most", type=float, default=MEGABYTES, help=f"megabytes of the file; {MEGABYTES:g} unless given"
    )
    return made


def load(source: Path) -> tuple[str, int, list[bytes] | np.ndarray, np.ndarray]:
    """(name, classes, JPEG bytes or pixels, labels) of the training part of a set.

    Raises:
      ValueError: there is no such set; says what is expected.
    """
    if source.is_dir():
        return from_tfds(source)
    if source.suffix == ".npz" and source.is_file():
        return from_npz(source)
    raise ValueError(f"{source} is neither the folder of a prepared TFDS set (.../cifar10/3.0.2) nor an .npz file.")


def from_npz(path: Path) -> tuple[str, int, np.ndarray, np.ndarray]:
    """The images and labels of an .npz file, as `jaxnas.data.load` takes it."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"image", "label"} - set(file.files)
        if missing:
            raise ValueError(f"{path} has {sorted(file.files)}; it needs image and label.")
        image, label = file["image"], file["label"]
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[-1] not in (1, 3):
        raise ValueError(f"{path}: image is {image.dtype} {image.shape}, expected uint8 [N, H, W, 1 or 3].")
    if label.shape != image.shape[:1] or label.dtype.kind not in "iu" or not len(label):
        raise ValueError(f"{path}: label is {label.dtype} {label.shape}, expected one integer for each image.")
    return path.stem, int(label.max()) + 1, image, label.astype(np.int32)


def from_tfds(folder: Path) -> tuple[str, int, list[bytes] | np.ndarray, np.ndarray]:
    """The training part of a prepared set; bytes where all images are stored as JPEG."""
    if not (folder / "dataset_info.json").is_file():
        raise ValueError(f"{folder} has no dataset_info.json: give the folder of one version, .../cifar10/3.0.2.")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError("a TFDS folder needs tensorflow-datasets: pip install tensorflow-datasets.") from error
    builder = tfds.builder_from_directory(str(folder))
    raw = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    features = builder.info.features
    classes = getattr(features["label"], "num_classes", None) if {"image", "label"} <= set(features.keys()) else None
    if not classes:
        raise ValueError(f"{folder} is no set of images with one class label each.")
    items = [(bytes(item["image"]), int(item["label"])) for item in raw]
    label = np.array([label for _, label in items], np.int32)
    if all(jpeg.startswith(JPEG) for jpeg, _ in items):
        return builder.name, classes, [jpeg for jpeg, _ in items], label
    return builder.name, classes, np.stack([item["image"] for item in builder.as_data_source("train")]), label


def pack(name: str, classes: int, images: list[bytes] | np.ndarray, label: np.ndarray, most: int):
    """(the packed set, the quality it was encoded with or None), in at most so many bytes.

    Raises:
      ValueError: it does not fit; says by how much.
    """
    room = most - OVERHEAD * len(label) - HEADERS
    if isinstance(images, list) and packed.size(images) <= room:
        return Packed(name, classes, images, label), None
    if isinstance(images, list):
        images = packed.decoded(images)
    for quality in QUALITIES:
        encode = packed.encoder(quality)
        sample = [encode(image) for image in images[:: max(1, len(images) // 500)]]
        if packed.size(sample) / len(sample) * len(images) > 1.05 * room:
            continue  # far too large, as a sample tells
        jpegs = [encode(image) for image in images]
        if packed.size(jpegs) <= room:
            return Packed(name, classes, jpegs, label), quality
    raise ValueError(
        f"{len(images):,} images do not fit into {most / 1e6:g} MB at quality {QUALITIES[-1]}: give more --most."
    )


if __name__ == "__main__":
    sys.exit(main())
