"""Sets of Hugging Face on disk: their files, parts, columns and pixels, and what is refused."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from jaxnas import data, reading
from jaxnas.datasets.stored import streamed

pa = pytest.importorskip("pyarrow", reason="pyarrow, of the extra huggingface, is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow has no parquet here")

CLASSES = ("ant", "bee", "cat")
NAMED = {"img": {"_type": "Image"}, "fine_label": {"names": CLASSES, "_type": "ClassLabel"}}


def pictures(count, seed):
    return np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3)).astype(np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": "1.png"}


def table(pixels, labels=None, features=NAMED, images="img", label="fine_label", **more):
    """A table as `datasets` makes it: features in the metadata of its schema."""
    labels = np.arange(len(pixels)) % 3 if labels is None else labels
    found = pa.table({images: [encoded(one) for one in pixels], label: pa.array(labels, pa.int64()), **more})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return found.replace_schema_metadata(metadata)


def save_to_disk(place, found, files=1, **state):
    """What `Dataset.save_to_disk` writes: arrow streams and a list of them."""
    place.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for name, rows in zip(names, np.array_split(np.arange(len(found)), files), strict=True):
        part = found.slice(rows[0], len(rows))
        with pa.OSFile(str(place / name), "wb") as sink, pa.ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(part, max_chunksize=4)
    (place / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], **state}))


def parquet(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(found, path, row_group_size=5)


TRAIN, TEST = pictures(22, 0), pictures(7, 1)


def saved_dict(root):
    save_to_disk(root / "train", table(TRAIN), files=3)
    save_to_disk(root / "test", table(TEST))
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')


def from_the_hub(root):
    parquet(root / "data" / "train-00000-of-00002.parquet", table(TRAIN[:13]))
    parquet(root / "data" / "train-00001-of-00002.parquet", table(TRAIN[13:], np.arange(13, 22) % 3))
    parquet(root / "data" / "test-00000-of-00001.parquet", table(TEST))


@pytest.mark.parametrize("make", [saved_dict, from_the_hub])
def test_pixels_labels_and_classes_are_those_of_the_rows(make, tmp_path):
    make(tmp_path)
    found = data.load(f"{tmp_path}/")
    assert (found.classes, found.name) == (3, tmp_path.name)
    for part, pixels in ((found.train, TRAIN), (found.test, TEST)):
        np.testing.assert_array_equal(part.image, pixels)
        np.testing.assert_array_equal(part.label, np.arange(len(pixels)) % 3)
    rows = np.array([20, 3, 3, 14, 0])  # in any order, over files and blocks
    np.testing.assert_array_equal(data.opened(f"{tmp_path}/").train.image[rows], TRAIN[rows])


def test_a_saved_set_without_parts_holds_out_a_fifth(tmp_path):
    save_to_disk(tmp_path / "set", table(TRAIN), files=2)
    found = data.load(f"{tmp_path / 'set'}/")
    assert (len(found.train.label), len(found.test.label)) == (18, 4)


def test_an_arrow_set_is_streamed_where_it_does_not_fit_and_parquet_is_refused(tmp_path):
    saved_dict(tmp_path / "saved")
    from_the_hub(tmp_path / "hub")
    split = lambda name: data.split(data.opened(f"{tmp_path / name}/"))
    (left, _), (kept, _) = reading.read(split("saved"), most=0), reading.read(split("saved"), most=10**9)
    assert streamed(left.train.image) and left.digest == kept.digest
    with pytest.raises(ValueError, match=r"cannot be read in a random order: .*save_to_disk"):
        reading.read(split("hub"), most=0)


@pytest.mark.parametrize(
    ("names", "labelled", "train", "held"),
    [
        (("train", "validation", "test"), True, 12, 6),
        (("train", "validation", "test"), False, 6, 6),  # a test part without labels is none
        (("train", "validation"), True, 6, 6),
    ],
)
def test_parts_by_their_names(tmp_path, names, labelled, train, held):
    for name in names:
        labels = None if labelled or name != "test" else np.full(6, -1)
        parquet(tmp_path / f"{name}.parquet", table(pictures(6, 0), labels))
    found = data.load(f"{tmp_path}/")
    assert (len(found.train.label), len(found.test.label)) == (train, held)


def test_columns_are_found_without_metadata(tmp_path):
    bare = table(TRAIN, features=None, images="picture", label="label", note=["a"] * 22)
    parquet(tmp_path / "train.parquet", bare)
    found = data.load(f"{tmp_path}/")
    assert found.classes == 3 and len(found.train.label) == 18


TWO = NAMED | {"coarse_label": {"names": ["x"], "_type": "ClassLabel"}}
REFUSED = {
    "two columns of labels": (
        lambda root: parquet(root / "train.parquet", table(TEST, features=TWO, coarse_label=[0] * 7)),
        ValueError,
        "columns of labels: fine_label, coarse_label; one is needed: leave one by set.select_columns",
    ),
    "no pictures": (
        lambda root: parquet(root / "train.parquet", pa.table({"text": ["a"], "label": [0]})),
        ValueError,
        "train.parquet has no column of pictures",
    ),
    "no train": (
        lambda root: parquet(root / "test.parquet", table(TEST)),
        FileNotFoundError,
        "has test; a search needs a split that is called train",
    ),
    "a choice of rows": (
        lambda root: save_to_disk(root / "set", table(TEST), _indices_data_files=[{"filename": "i"}]),
        ValueError,
        "flatten_indices",
    ),
    "a file that is cut": (
        lambda root: from_the_hub(root) or (root / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1"),
        ValueError,
        "test-00000-of-00001.parquet cannot be read .*: fetch or save it again",
    ),
    "a broken picture": (
        lambda root: parquet(
            root / "train.parquet",
            pa.table({"image": [{"bytes": b"no", "path": "7.png"}], "label": [0]}),
        ),
        ValueError,
        r"train.parquet, row 0 \(7.png\) is no image",
    ),
    "two kinds of tables": (
        lambda root: (
            from_the_hub(root)
            or parquet(root / "other" / "train.parquet", table(TEST, features=None, images="image", label="label"))
        ),
        ValueError,
        r"tables of several kinds \(image, label and img, fine_label\)",
    ),
}


@pytest.mark.parametrize(("make", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(make, error, text, tmp_path):
    make(tmp_path)
    place = tmp_path / "set" if (tmp_path / "set").exists() else tmp_path
    with pytest.raises(error, match=text):
        data.load(f"{place}/")


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    from_the_hub(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxnas\[huggingface\]'"):
        data.load(f"{tmp_path}/")
