"""Pixels to network input: exact semantics against plain loops, then purity."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.augmentation import (
    Statistics,
    chain,
    cutout,
    default_augmentation,
    flip,
    identity,
    mirrored,
    normalize,
    pad_crop,
    plain,
    statistics,
)
from jaxnas.data import Batch, Dataset, load

KEY = jax.random.key(11)
COUNT, SIDE = 64, 6
# every pixel of every image differs from every other, and none is zero
IMAGES = jnp.arange(1, 1 + COUNT * SIDE * (SIDE + 1) * 2, dtype=jnp.int32).reshape(COUNT, SIDE, SIDE + 1, 2)
STATS = Statistics(np.array([120.0, 30.0]), np.array([60.0, 5.0]))


def shifted(image, top, left, padding):
    out = np.zeros_like(image)
    for r in range(image.shape[0]):
        for c in range(image.shape[1]):
            y, x = r + top - padding, c + left - padding
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                out[r, c] = image[y, x]
    return out


def test_pad_crop_equals_a_plain_loop_over_every_corner():
    padding, got, seen = 2, np.asarray(pad_crop(2)(KEY, IMAGES)), set()
    corners = [(t, s) for t in range(2 * padding + 1) for s in range(2 * padding + 1)]
    for image, out in zip(np.asarray(IMAGES), got, strict=True):
        fits = [c for c in corners if np.array_equal(shifted(image, *c, padding), out)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert {t for t, _ in seen} == {s for _, s in seen} == set(range(2 * padding + 1))
    assert len(seen) > 2 * padding + 1  # rows and columns move independently, image by image


def test_pad_crop_border_is_black_before_normalisation():
    white = jnp.full((COUNT, SIDE, SIDE, 2), 255, jnp.uint8)
    got = chain(pad_crop(2), normalize(STATS))(KEY, white)
    black, full = ((value - STATS.mean) / STATS.deviation for value in (0.0, 255.0))
    for channel in range(2):
        values = np.unique(np.asarray(got[..., channel]))
        np.testing.assert_allclose(values, sorted([black[channel], full[channel]]), rtol=1e-6)


def test_flip_mirrors_about_half():
    got = np.asarray(flip()(KEY, IMAGES))
    same = [np.array_equal(a, b) for a, b in zip(got, np.asarray(IMAGES), strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(got, np.asarray(IMAGES), strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert COUNT // 4 < sum(mirrored) < 3 * COUNT // 4


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_cutout_equals_a_plain_loop_over_every_centre(length):
    got, seen = np.asarray(cutout(length)(KEY, IMAGES)), set()
    height, width = IMAGES.shape[1:3]

    def cut(image, y, x):
        out, top, left = image.copy(), y - length // 2, x - length // 2
        out[max(0, top) : top + length, max(0, left) : left + length] = 0
        return out

    for image, out in zip(np.asarray(IMAGES), got, strict=True):
        fits = [(y, x) for y in range(height) for x in range(width) if np.array_equal(cut(image, y, x), out)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > COUNT // 3


def test_cutout_sizes_agree_with_the_official_class_for_even_lengths():
    y = 3  # as quark0/darts cnn/utils.py, Cutout.__call__, for a centre whose square reaches no border
    y1, y2 = np.clip(y - 4 // 2, 0, SIDE), np.clip(y + 4 // 2, 0, SIDE)
    official = (y2 - y1) ** 2
    removed = (np.asarray(cutout(4)(KEY, IMAGES))[..., 0] == 0).sum((1, 2))
    assert removed.max() == official == 16


def test_zero_sizes_change_nothing():
    for transform in (pad_crop(0), cutout(0), identity, chain()):
        np.testing.assert_array_equal(transform(KEY, IMAGES), IMAGES)


def test_chain_applies_in_order_with_independent_keys():
    seen = []

    def spy(key, images):
        seen.append(jax.random.key_data(key).tolist())
        return images * len(seen) + 1

    got = chain(spy, spy)(KEY, jnp.array(5, jnp.int32))
    assert got == (5 * 1 + 1) * 2 + 1
    assert seen[0] != seen[1]


def test_normalisation_gives_mean_zero_and_deviation_one():
    train = load("digits").train
    stats = statistics(train)
    pixels = np.asarray(train.image, np.float64)
    np.testing.assert_allclose(stats.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(stats.deviation, pixels.std((0, 1, 2)), rtol=1e-12)
    got = plain(stats)(KEY, jnp.asarray(train.image))
    assert got.dtype == jnp.float32
    assert abs(float(got.mean())) < 1e-4 and abs(float(got.std()) - 1) < 1e-4


def test_statistics_are_per_channel_and_never_zero():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2), np.uint8)
    image[..., 1] = 9
    stats = statistics(Batch(image, np.zeros(5, np.int32)))
    np.testing.assert_allclose(stats.mean, [image[..., 0].mean(), 9])
    np.testing.assert_allclose(stats.deviation, [image[..., 0].std(), 0.01])
    with pytest.raises(ValueError, match="raw uint8"):
        statistics(Batch(image / 255, np.zeros(5, np.int32)))


def test_normalize_in_half_precision_is_computed_in_single():
    images = jnp.arange(256, dtype=jnp.uint8).reshape(2, 8, 8, 2)
    exact = normalize(STATS)(KEY, images)
    half = normalize(STATS, jnp.bfloat16)(KEY, images)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("make", [pad_crop, cutout])
def test_negative_sizes_are_refused(make):
    with pytest.raises(ValueError, match="0 or more"):
        make(-1)


EVERY = {
    "pad_crop": pad_crop(2),
    "flip": flip(),
    "cutout": cutout(3),
    "normalize": normalize(STATS),
    "chain": chain(pad_crop(1), flip(), normalize(STATS), cutout(2)),
}


@pytest.mark.parametrize("name", EVERY)
def test_jit_and_vmap_equal_eager(name):
    transform = EVERY[name]
    images = (IMAGES % 256).astype(jnp.uint8).reshape(4, COUNT // 4, *IMAGES.shape[1:])
    keys = jax.random.split(KEY, 4)
    eager = jnp.stack([transform(k, i) for k, i in zip(keys, images, strict=True)])
    compiled = jnp.stack([jax.jit(transform)(k, i) for k, i in zip(keys, images, strict=True)])
    mapped = jax.jit(jax.vmap(transform))(keys, images)
    assert eager.shape == images.shape
    for other in (compiled, mapped):
        np.testing.assert_allclose(eager, other, rtol=1e-6, atol=1e-6)
    shared = jax.vmap(transform, in_axes=(0, None))(keys, images[0])  # one batch, several seeds
    np.testing.assert_allclose(shared[0], eager[0], rtol=1e-6, atol=1e-6)


def blank(name, side, channels):
    image = np.random.default_rng(1).integers(1, 256, (40, side, side, channels), np.uint8)
    part = Batch(image, np.zeros(40, np.int32))
    return Dataset(name=name, train=part, test=part, classes=2)


@pytest.mark.parametrize(
    "name,side,channels,padding,mirrored",
    [
        ("digits", 8, 1, 1, False),
        ("mnist", 28, 1, 4, False),
        ("svhn_cropped:3.1.0", 32, 3, 4, False),
        ("emnist/letters", 28, 1, 4, False),
        ("fashion_mnist", 28, 1, 4, True),
        ("cifar10", 32, 3, 4, True),
        ("own", 16, 3, 2, True),
        ("own", 4, 1, 1, True),
    ],
)
def test_default_augmentation_follows_size_and_name(name, side, channels, padding, mirrored):
    data = blank(name, side, channels)
    stats = statistics(data.train)
    got = default_augmentation(data, stats)(KEY, jnp.asarray(data.train.image))
    crop_key, flip_key, _ = jax.random.split(KEY, 3)
    expected = pad_crop(padding)(crop_key, jnp.asarray(data.train.image))
    expected = flip()(flip_key, expected) if mirrored else expected
    np.testing.assert_allclose(got, normalize(stats)(KEY, expected), rtol=1e-6)


@pytest.mark.parametrize("name", ["mnist", "MNIST", "Mnist:3.0.1", "KMNIST", "EMNIST/letters", "SvhnCropped", "Digits"])
def test_digits_and_letters_are_never_mirrored_however_they_are_spelt(name):
    assert not mirrored(replace(load("digits"), name=name))
    assert mirrored(replace(load("digits"), name="mine"))
