"""TFDS sets: what is said when one is missing or unfit, and real prepared ones where the machine has them."""

import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxnas import augmentation
from jaxnas.data import Batch, load, opened, split
from jaxnas.datasets import prepared
from jaxnas.datasets.stored import near

NEARBY = Path(__file__).resolve().parents[1] / "../shared/data/tfds"
DATA_DIR = Path(os.environ.get("JAXNAS_DATA_DIR", NEARBY))


def test_missing_tfds_set_fails_fast_and_says_what_to_do(tmp_path, monkeypatch):
    def refused(*args, **options):
        raise OSError("no network in this test")

    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(prepared.socket, "create_connection", refused)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar10", tmp_path)
    assert time.monotonic() - start < 10
    for needed in (
        "'cifar10'",
        str(tmp_path),
        "--data-dir",
        "array_record",
        "digits",
        "no network in this test",
    ):
        assert needed in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert not list(tmp_path.rglob("*.*record*"))


@pytest.mark.parametrize(
    "name,message",
    [
        ("cifar11", "did you mean.*cifar10"),
        ("digit", "did you mean.*digits"),
        ("mnist/foo", "BuilderConfig foo"),
        ("cifar10:9.9.9", "9.9.9"),
        ("", "Possible are"),
        ("amazon_us_reviews", "'image' and 'label' are needed"),
    ],
)
def test_unknown_names_are_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        load(name, tmp_path)


class Records(list):
    def __getitems__(self, rows):
        return [self[row] for row in rows]


def fake(monkeypatch, folder, **splits):
    """Puts a set with these splits (widths of their images) in the place of TFDS."""

    def source(split, decoders=None):
        images = [b"undecoded" if decoders else np.full((4, w, 1), i, np.uint8) for i, w in enumerate(splits[split])]
        return Records({"image": image, "label": i % 2} for i, image in enumerate(images))

    features = {"image": None, "label": SimpleNamespace(num_classes=2)}
    info = SimpleNamespace(features=features, splits=splits)
    builder = SimpleNamespace(info=info, data_dir=str(folder), as_data_source=source)
    monkeypatch.setattr(prepared, "_builder", lambda name, data_dir: builder)
    return builder


def test_held_out_part_is_test_else_validation_else_one_fifth(tmp_path, monkeypatch):
    fake(monkeypatch, tmp_path, train=[4] * 10, validation=[4] * 3, test=[4] * 2)
    assert len(load("any").test.label) == 2
    fake(monkeypatch, tmp_path, train=[4] * 10, validation=[4] * 3)
    assert len(load("any").test.label) == 3
    fake(monkeypatch, tmp_path, train=[4] * 10)
    parts = load("any")
    assert (len(parts.train.label), len(parts.test.label)) == (8, 2)
    assert sorted([*parts.train.image[:, 0, 0, 0], *parts.test.image[:, 0, 0, 0]]) == list(range(10))


class Counted(Records):
    """Records that remember which were asked for."""

    def __init__(self, items, seen):
        super().__init__(items)
        self.seen = seen

    def __getitems__(self, rows):
        self.seen += [row for row in rows if not isinstance(self[row]["image"], bytes)]
        return super().__getitems__(rows)


@pytest.mark.parametrize("held_out", [{"test": [4] * 6}, {}])
def test_an_opened_set_is_the_loaded_one_and_decodes_what_is_asked_for(tmp_path, monkeypatch, held_out):
    builder, seen = fake(monkeypatch, tmp_path, train=[4] * 20, **held_out), []
    found = builder.as_data_source
    builder.as_data_source = lambda *args, **options: Counted(found(*args, **options), seen)
    whole = split(load("any"), seed=3, fraction=0.9)
    seen.clear()
    parts = split(opened("any"), seed=3, fraction=0.9)
    assert parts.digest == whole.digest.partition("+")[0] and not seen  # of pixels that nobody has read
    rows = np.array([1, 4, 5])
    half = parts.train._replace(image=near(parts.train.image, rows))
    assert len(seen) == 3
    np.testing.assert_array_equal(half.image[rows], whole.train.image[rows])
    np.testing.assert_array_equal(half.image[4:6], whole.train.image[4:6])
    assert len(seen) == 3  # kept
    np.testing.assert_array_equal(half.image, whole.train.image)  # all, after all
    counted = [augmentation.counts(Batch(parts.train.image[r::2], None)) for r in range(2)]
    of_parts, of_whole = augmentation.of_counts(sum(counted)), augmentation.statistics(whole.train)
    np.testing.assert_array_equal(of_parts, of_whole)


def test_unfit_tfds_sets_are_refused(tmp_path, monkeypatch):
    fake(monkeypatch, tmp_path, train=[4] * 5 + [5], test=[4])
    with pytest.raises(ValueError, match=r"image 0 is \(4, 4, 1\) and image 5 is \(4, 5, 1\)"):
        load("any")
    fake(monkeypatch, tmp_path, train=[], test=[4])
    with pytest.raises(ValueError, match="any, train is empty"):
        load("any")
    fake(monkeypatch, tmp_path, train=[4] * 5, test=[5])
    with pytest.raises(ValueError, match="bring both to one"):
        load("any")


def test_a_folder_in_another_format_is_explained(tmp_path, monkeypatch):
    def refused(split):
        raise NotImplementedError("TFRECORD is not supported")

    fake(monkeypatch, tmp_path, train=[4]).as_data_source = refused
    with pytest.raises(FileNotFoundError, match=r"TFRECORD is not supported.*array_record"):
        load("any", tmp_path)


SETS = {"cifar10": (50_000, (32, 32, 3)), "fashion_mnist": (60_000, (28, 28, 1))}


@pytest.mark.parametrize("name", SETS)
def test_prepared_sets_load_quickly_and_quietly_without_tensorflow(name, capfd):
    if not (DATA_DIR / name).is_dir():
        pytest.skip(f"no prepared {name} in {DATA_DIR}; set JAXNAS_DATA_DIR to a folder of prepared TFDS sets")
    size, shape = SETS[name]
    had_tensorflow = "tensorflow" in sys.modules
    capfd.readouterr()
    start = time.monotonic()
    real = load(name, DATA_DIR)
    assert time.monotonic() - start < 60
    assert "".join(capfd.readouterr()) == ""
    assert ("tensorflow" in sys.modules) == had_tensorflow
    assert real.train.image.shape == (size, *shape) and real.test.image.shape == (10_000, *shape)
    assert real.train.image.dtype == np.uint8 and real.train.label.dtype == np.int32 and real.classes == 10
    assert np.bincount(real.train.label).tolist() == [size // 10] * 10
    assert np.bincount(real.test.label).tolist() == [1000] * 10
    parts = split(real)
    assert len(parts.train.label) == len(parts.valid.label) == size // 2


@pytest.mark.parametrize(
    ("asked", "own"),
    [
        ("cifar10", "cifar10"),
        ("CIFAR10", "cifar10"),
        ("cifar-10:3.0.2", "cifar10:3.0.2"),
        ("FashionMNIST", "fashion_mnist"),
        ("fashion-mnist", "fashion_mnist"),
        ("EMNIST/letters", "emnist/letters"),
    ],
)
def test_names_are_brought_to_the_spelling_of_tfds(asked, own, monkeypatch):
    known = ["cifar10", "fashion_mnist", "emnist", "cifar100"]

    def builder(name, data_dir):
        head = re.split("[/:]", name)[0].lower()
        if head not in known:
            raise ValueError(f"{head} not found")
        return SimpleNamespace(name=head)

    there = SimpleNamespace(builder=builder, list_builders=lambda **options: known)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", there)
    assert prepared._own_name(asked, prepared._builder(asked, None)) == own
    with pytest.raises(ValueError, match="did you mean cifar100, cifar10"):
        prepared._builder("cifar1000", None)
