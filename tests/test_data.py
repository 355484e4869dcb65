"""Digits, the user's own arrays, the split, and the order of an epoch."""

import hashlib
import importlib.resources
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnas import fingerprint
from jaxnas.data import Batch, Dataset, epoch_rows, load, split, take


def arrays(size=10, classes=3):
    image = np.random.default_rng(0).integers(0, 256, (size, 4, 4, 2), np.uint8)
    return {"image": image, "label": np.arange(size) % classes}


def saved(tmp_path, **contents):
    np.savez(tmp_path / "own.npz", **contents)
    return str(tmp_path / "own.npz")


def dataset(size=10):
    part = Batch(arrays(size)["image"], arrays(size)["label"].astype(np.int32))
    return Dataset(name="own", train=part, test=Batch(*(leaf[:2] for leaf in part)), classes=3)


# ---------------------------------------------------------------- digits


def test_digits_are_the_published_ones():
    with importlib.resources.files("jaxnas.datasets").joinpath("digits.npz").open("rb") as file:
        stored = dict(np.load(file, allow_pickle=False))
    assert stored["image"].shape == (1797, 8, 8, 1) and stored["image"].dtype == np.uint8
    assert (stored["image"].min(), stored["image"].max()) == (0, 16)
    # per digit: counted by sklearn.datasets.load_digits().target, scikit-learn 1.9
    assert np.bincount(stored["label"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    digest = hashlib.sha256(stored["image"].tobytes() + stored["label"].tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_digits_equal_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    with importlib.resources.files("jaxnas.datasets").joinpath("digits.npz").open("rb") as file:
        stored = dict(np.load(file, allow_pickle=False))
    np.testing.assert_array_equal(stored["image"][..., 0], theirs.images)
    np.testing.assert_array_equal(stored["label"], theirs.target)


def test_digits_hold_one_fifth_out():
    digits = load("digits")
    assert (len(digits.train.label), len(digits.test.label), digits.classes) == (1438, 359, 10)
    assert digits.train.label.dtype == np.int32 and digits.train.image.dtype == np.uint8
    np.testing.assert_array_equal(digits.test.image, load("digits").test.image)


def test_digits_carry_attribution_and_licence():
    text = importlib.resources.files("jaxnas.datasets").joinpath("README.md").read_text()
    for needed in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert needed in text


# ---------------------------------------------------------------- the user's own arrays


def test_npz_with_and_without_a_test_part(tmp_path):
    own = arrays(10)
    whole = load(saved(tmp_path, **own))
    assert (len(whole.train.label), len(whole.test.label), whole.classes, whole.name) == (8, 2, 3, "own")
    together = np.concatenate([whole.train.image, whole.test.image])
    assert {i.tobytes() for i in together} == {i.tobytes() for i in own["image"]}
    given_test = load(saved(tmp_path, **own, test_image=own["image"][:3], test_label=own["label"][:3] + 1))
    np.testing.assert_array_equal(given_test.train.image, own["image"])
    assert given_test.test.label.tolist() == [1, 2, 3] and given_test.classes == 4


def test_npz_path_may_be_relative_to_data_dir(tmp_path):
    saved(tmp_path, **arrays())
    assert load("own.npz", tmp_path).classes == 3
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load("absent.npz", tmp_path)


GOOD = arrays()
BAD = {
    "float images": ({"image": GOOD["image"] / 255}, "uint8.*float64|float64.*uint8"),
    "other integers": ({"image": GOOD["image"].astype(np.int32)}, "int32"),
    "no channels": ({"image": GOOD["image"][..., 0]}, r"image\[\.\.\., None\]"),
    "lengths": ({"label": GOOD["label"][:7]}, "10 images but 7 labels"),
    "label rank": ({"label": np.eye(10, dtype=np.int64)}, "one integer per image"),
    "label type": ({"label": GOOD["label"] * 1.0}, "one integer per image"),
    "negative": ({"label": GOOD["label"] - 1 - 5 * (np.arange(10) == 4)}, "label -5 at index 4"),
    "huge": ({"label": GOOD["label"].astype(np.uint64) + 2**33}, "outside"),
    "empty": ({"image": GOOD["image"][:0], "label": GOOD["label"][:0]}, "nothing in them"),
    "no width": ({"image": GOOD["image"][:, :, :0]}, "nothing in them"),
    "too few": ({"image": GOOD["image"][:4], "label": GOOD["label"][:4]}, "at least 5"),
    "bool images": ({"image": GOOD["image"] > 127}, r"image\.astype\(numpy\.uint8\) \* 255"),
    "integers in 0..255": (
        {"image": GOOD["image"].astype(np.int64)},
        r"lie in \d+\.\.255: convert by image\.round\(\)",
    ),
    "integers beyond": ({"image": GOOD["image"].astype(np.uint16) * 257}, "bring them to 0..255 first"),
    "below 0": ({"image": GOOD["image"] / 127.5 - 1}, "bring them to 0..255 first"),
    "not finite": ({"image": np.where(GOOD["image"] == 7, np.nan, 0.5)}, "not finite numbers.*replace them first"),
    "channels first": ({"image": np.zeros((10, 3, 16, 16), np.uint8)}, r"channels come first.*transpose\(0, 2, 3, 1\)"),
    "one channel first": ({"image": np.zeros((10, 1, 28, 20), np.uint8)}, "channels come first"),
    "labels in a column": ({"label": GOOD["label"][:, None]}, r"label\[:, 0\] is that"),
    "one-hot labels": ({"label": np.eye(3, dtype=np.uint8)[GOOD["label"]]}, r"label\.argmax\(1\) is that"),
    "whole floats": ({"label": GOOD["label"] * 1.0}, r"label\.astype\(int\) is that"),
    "labels from 1": (
        {"label": GOOD["label"] + 1},
        r"largest label is 3, and only 3 .*without an image: 0\..*classes=4",
    ),
    "gaps": ({"label": np.where(GOOD["label"] == 1, 5, 0)}, r"largest label is 5, and only 2 .*image: 1, 2, 3, 4\."),
    "ids": ({"label": 10**6 + np.arange(10)}, r"largest label is 1000009.*return_inverse=True\)\[1\]\.$"),
    "one class": ({"label": GOOD["label"] * 0}, "1 class, and nothing to tell apart"),
    "one class, not the first": ({"label": GOOD["label"] * 0 + 3}, "largest label is 3, and only 1 different labels"),
    "classes that are no number": ({"classes": np.arange(3)}, "classes is int64 .*expected one integer"),
    "too few classes": ({"classes": 2}, r"label 2 at index \d+ is outside 0\.\.1"),
    "half a test part": ({"test_image": GOOD["image"]}, "test_label"),
    "other shapes": ({"test_image": GOOD["image"][:, 1:], "test_label": GOOD["label"]}, r"\[H, W, C\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(tmp_path, case):
    changed, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        load(saved(tmp_path, **{**arrays(), **changed}))


def test_classes_without_an_image_may_be_told(tmp_path):
    assert load(saved(tmp_path, **arrays(), classes=7)).classes == 7


OTHERS = {  # names of other programs -> what is offered
    (
        "x_train",
        "y_train",
        "x_test",
        "y_test",
    ): 'label=a["y_train"], test_image=a["x_test"]',
    (
        "train_images",
        "train_labels",
        "test_images",
        "test_labels",
    ): 'label=a["train_labels"]',
    ("images", "labels"): 'image=a["images"], label=a["labels"]',
    ("Image", "Label"): 'image=a["Image"], label=a["Label"]',
    ("arr_0", "arr_1"): 'image=a["arr_0"], label=a["arr_1"]',
}


@pytest.mark.parametrize("names", OTHERS)
def test_arrays_of_other_names_are_listed_with_the_line_that_renames_them(tmp_path, names, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = dict(zip(names, [arrays()["image"], arrays()["label"]] * 2, strict=False))
    with pytest.raises(ValueError, match=re.escape(OTHERS[names])) as told:
        load(saved(tmp_path, **contents))
    assert all(name in str(told.value) for name in names)
    line = str(told.value).partition("test_label: ")[2].removesuffix(".")
    exec(line, {"numpy": np})  # what the message says to do works
    assert load("renamed.npz").classes == 3


def test_arrays_that_nobody_knows_are_listed_only(tmp_path):
    with pytest.raises(
        ValueError, match=r"has weights, yes; it needs image and label, and test_image with test_label\.$"
    ):
        load(saved(tmp_path, weights=np.ones(3), yes=np.ones(2)))


def test_missing_arrays_are_named(tmp_path):
    with pytest.raises(ValueError, match="needs image and label"):
        load(saved(tmp_path, label=GOOD["label"]))


class Exploding:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path):
    objects = np.empty(10, object)
    objects[:] = Exploding()
    for contents in ({"image": objects, "label": GOOD["label"]}, {"image": GOOD["image"], "label": objects}):
        with pytest.raises(ValueError, match="Pickled objects are never loaded"):
            load(saved(tmp_path, **contents))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04broken", b"\x80\x04K\x01."])
def test_broken_files_are_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load("own.npz", tmp_path)


def test_a_lone_array_is_refused(tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, GOOD["image"])
    with pytest.raises(ValueError, match="cannot be read"):
        load("own.npz", tmp_path)


def test_dataset_checks_labels_against_classes():
    part = Batch(GOOD["image"], np.where(np.arange(10) == 6, 7, 0).astype(np.int32))
    with pytest.raises(ValueError, match=r"train part: label 7 at index 6 is outside 0\.\.2"):
        Dataset(name="own", train=part, test=part, classes=3)


# ---------------------------------------------------------------- split


def test_split_is_disjoint_and_complete():
    digits = load("digits")
    parts = split(digits, valid_fraction=0.25)
    assert (len(parts.train.label), len(parts.valid.label)) == (1078, 360)
    rows = [i.tobytes() + bytes([y]) for p in parts[:2] for i, y in zip(p.image, p.label, strict=True)]
    assert sorted(rows) == sorted(
        i.tobytes() + bytes([y]) for i, y in zip(*digits.train, strict=True)
    )  # the same multiset: nothing lost, nothing twice
    assert parts.test is digits.test


def test_split_is_seeded_and_shuffled():
    digits = load("digits")
    first, again, other = split(digits), split(digits), split(digits, seed=1)
    assert first.digest == again.digest != other.digest and len(first.digest) == 64 + 1 + 32
    np.testing.assert_array_equal(first.valid.image, again.valid.image)
    assert not np.array_equal(first.train.label, digits.train.label[: len(first.train.label)])


def dotted(images, place):
    """One pixel changed."""
    changed = images.copy()
    if place:
        changed[place] ^= 1
    return changed


def test_pixels_may_be_counted_in_parts():
    images = dataset().train.image
    rows = np.array([[0, 3, 4], [1, 2, 5]])
    parts = [fingerprint.of_pixels(1, images[some], some) for some in rows]
    np.testing.assert_array_equal(parts[0] + parts[1], fingerprint.of_pixels(1, images[:6]))


def test_digest_follows_everything_that_matters():
    own = dataset()
    train, test = own.train, own.test
    renamed = Dataset(name="other", train=train, test=test, classes=3)
    relabelled = Dataset(name="own", train=train, test=test._replace(label=test.label[::-1]), classes=3)
    narrower = Dataset(
        name="own",
        train=train._replace(image=train.image[:, 1:]),
        test=test._replace(image=test.image[:, 1:]),
        classes=3,
    )
    dots = [
        Dataset(
            name="own",
            train=train._replace(image=dotted(train.image, place)),
            test=test._replace(image=dotted(test.image, other)),
            classes=3,
        )
        for place, other in (((9, 3, 3, 1), None), (None, (1, 0, 0, 0)))
    ]
    turned = Dataset(name="own", train=train._replace(image=train.image[::-1]), test=test, classes=3)
    digests = [split(d).digest for d in (own, renamed, relabelled, narrower, turned, *dots)]
    assert all(fingerprint.alike(one, one.partition("+")[0]) for one in digests)  # of an older version
    assert not any(fingerprint.alike(digests[0], other) for other in digests[1:])
    digests += [split(own, valid_fraction=0.3).digest, split(own, fraction=0.5).digest]
    assert len(set(digests)) == len(digests)


def test_fraction_keeps_a_part_of_the_training_images():
    parts = split(load("digits"), fraction=0.1)
    assert (len(parts.train.label), len(parts.valid.label), len(parts.test.label)) == (72, 72, 359)


@pytest.mark.parametrize(
    "options",
    [{"valid_fraction": v} for v in (0, 1, -0.1, float("nan"))]
    + [{"fraction": f} for f in (0, 1.1, -1, float("nan"))]
    + [{"valid_fraction": 0.01}, {"valid_fraction": 0.99}, {"fraction": 0.01}],
)
def test_impossible_splits_are_refused(options):
    with pytest.raises(ValueError, match="fraction="):
        split(dataset(), **options)


# ---------------------------------------------------------------- the order of an epoch


@settings(deadline=None, max_examples=25)
@given(size=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_epoch_covers_everything(size, batch, seed):
    rows = epoch_rows(jax.random.key(seed), size, batch)
    assert rows.shape == (-(-size // batch), batch) and rows.dtype == jnp.int32
    flat = np.asarray(rows).ravel()
    assert sorted(flat[:size]) == list(range(size))
    np.testing.assert_array_equal(flat, np.resize(flat[:size], flat.shape))  # filled up with its own beginning


def test_epoch_is_deterministic_fresh_and_pure():
    keys = jax.random.split(jax.random.key(3), 2)
    eager = jnp.stack([epoch_rows(k, 10, 4) for k in keys])
    assert not jnp.array_equal(eager[0], eager[1])
    compiled = jax.jit(jax.vmap(lambda k: epoch_rows(k, 10, 4)))(keys)
    np.testing.assert_array_equal(compiled, eager)


@pytest.mark.parametrize("size,batch", [(0, 4), (4, 0), (-1, 1)])
def test_impossible_epochs_are_refused(size, batch):
    with pytest.raises(ValueError, match="at least one"):
        epoch_rows(jax.random.key(0), size, batch)


def test_take_gathers_images_with_their_labels():
    own = dataset().train
    rows = jnp.array([7, 0, 7], jnp.int32)
    for got in (take(own, rows), jax.jit(take)(jax.device_put(own), rows)):
        np.testing.assert_array_equal(got.image, own.image[[7, 0, 7]])
        np.testing.assert_array_equal(got.label, own.label[[7, 0, 7]])
        assert got.image.dtype == jnp.uint8 and got.label.dtype == jnp.int32
