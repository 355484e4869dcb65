"""TFDS sets: what is said when one is missing or unfit, and real prepared ones where the machine has them."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxnas.data import load, split
from jaxnas.datasets import prepared

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

    def source(split):
        widths = splits[split]
        return Records({"image": np.full((4, w, 1), i, np.uint8), "label": i % 2} for i, w in enumerate(widths))

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
