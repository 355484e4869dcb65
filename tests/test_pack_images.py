"""Images as one file of JPEG bytes: what goes in comes out, and what does not fit is told."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import pack_images, packed


@pytest.fixture
def smooth(tmp_path):
    """An .npz of 60 smooth images, which JPEG keeps well."""
    ramp = np.linspace(0, 255, 16)
    image = np.stack([np.add.outer(ramp, k * ramp / 60) / 2 for k in range(60)]).clip(0, 255).astype(np.uint8)
    image = np.repeat(image[..., None], 3, -1)
    np.savez(tmp_path / "smooth.npz", image=image, label=np.arange(60) % 7)
    return tmp_path / "smooth.npz", image


def test_an_npz_there_and_back(smooth, tmp_path, capsys):
    source, image = smooth
    assert pack_images.main([str(source), "--out", str(tmp_path / "out")]) == 0
    assert "60 images of smooth" in capsys.readouterr().out
    found = packed.read(tmp_path / "out")
    assert (found.name, found.classes, found.label.tolist()) == ("smooth", 7, [k % 7 for k in range(60)])
    assert all(jpeg.startswith(pack_images.JPEG) for jpeg in found.jpegs)
    pixels = packed.pixels(found.jpegs, 1)
    assert pixels.shape == image.shape and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - image).max() <= 12
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_processes_decode_the_same(smooth, monkeypatch):
    _, image = smooth
    jpegs = [packed.encoder(90)(one) for one in image]
    monkeypatch.setattr(packed, "CHUNK", 25)
    np.testing.assert_array_equal(packed.pixels(jpegs, 2), packed.pixels(jpegs, 1))


def test_one_channel(tmp_path):
    image = np.full((3, 8, 8, 1), 7, np.uint8)
    set_, quality = pack_images.pack("grey", 2, image, np.zeros(3, np.int32), 10**6)
    assert quality == max(pack_images.QUALITIES)
    np.testing.assert_array_equal(packed.pixels(set_.jpegs, 1), image)


@pytest.fixture
def noise():
    """60 images whose JPEGs get much smaller with the quality."""
    return np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)


def test_the_best_quality_that_fits(noise, tmp_path):
    image = noise
    label = np.zeros(len(image), np.int32)
    best, _ = pack_images.pack("s", 1, image, label, 10**6)
    most = packed.write(tmp_path / "best", best)
    smaller, quality = pack_images.pack("s", 1, image, label, most - 5000)
    assert quality < max(pack_images.QUALITIES) and packed.write(tmp_path / "smaller", smaller) <= most - 5000
    with pytest.raises(ValueError, match=r"60 images do not fit into 0.02 MB at quality 50: give more --most"):
        pack_images.pack("s", 1, image, label, 20_000)


def test_a_header_that_all_have_alike_takes_no_room(noise):
    jpegs = [packed.encoder(50)(image[:8, :8]) for image in noise]
    assert packed.size(jpegs) < 0.6 * sum(map(len, jpegs))


def test_stored_jpegs_keep_their_bytes(noise):
    image = noise
    jpegs, label = [packed.encoder(95)(one) for one in image], np.zeros(len(image), np.int32)
    kept, quality = pack_images.pack("s", 1, jpegs, label, 10**6)
    assert quality is None and kept.jpegs == jpegs
    smaller, quality = pack_images.pack("s", 1, jpegs, label, packed.size(jpegs) + 60 * pack_images.OVERHEAD)
    assert quality is not None and sum(map(len, smaller.jpegs)) < sum(map(len, jpegs))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nothing", "nothing is neither the folder of a prepared TFDS set"),
        (".", "has no dataset_info.json"),
        ("labels.npz", "it needs image and label"),
        ("floats.npz", "image is float64 (2, 4, 4, 3), expected uint8"),
        ("few.npz", "label is int64 (1,), expected one integer for each image"),
    ],
)
def test_nonsense_is_answered_in_one_sentence(source, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("labels.npz", label=np.zeros(2, int))
    np.savez("floats.npz", image=np.zeros((2, 4, 4, 3)), label=np.zeros(2, int))
    np.savez("few.npz", image=np.zeros((2, 4, 4, 3), np.uint8), label=np.zeros(1, int))
    assert pack_images.main([source, "--out", "out"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("pack_images: ") and text in told and not Path("out").exists()


def test_a_place_that_cannot_be(smooth, tmp_path, capsys):
    source, _ = smooth
    for out in (tmp_path, tmp_path / "no" / "out"):
        assert pack_images.main([str(source), "--out", str(out)]) == 1
        assert "give the name of a file in a folder that is there" in capsys.readouterr().err


def test_a_file_of_another_kind(smooth, tmp_path):
    source, image = smooth
    with pytest.raises(ValueError, match=r"no file of packed images: make one by"):
        packed.read(source)
    with pytest.raises(ValueError, match="there is no file"):
        packed.read(tmp_path / "nothing")
    (tmp_path / "text").write_text("not an archive")
    with pytest.raises(ValueError, match="no file of packed images"):
        packed.read(tmp_path / "text")
    whole = packed.Packed("s", 1, [packed.encoder(90)(image[0])], np.zeros(1, np.int32))
    packed.write(tmp_path / "cut", whole._replace(label=np.zeros(2, np.int32)))
    with pytest.raises(ValueError, match="its offsets do not fit"):
        packed.read(tmp_path / "cut")
    mixed = [packed.encoder(90)(np.zeros((side, side, 3), np.uint8)) for side in (8, 16)]
    with pytest.raises(ValueError, match="different shapes"):
        packed.pixels(mixed, 1)


def test_a_prepared_set(tmp_path):
    """Needs real images: those of $JAXNAS_DATA_DIR."""
    folders = sorted(Path(os.environ.get("JAXNAS_DATA_DIR", "/nowhere")).glob("cifar10/*/dataset_info.json"))
    if not folders:
        pytest.skip("no prepared cifar10 in $JAXNAS_DATA_DIR")
    assert pack_images.main([str(folders[0].parent), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").stat().st_size <= 44e6
    found = packed.read(tmp_path / "out")
    assert len(found.jpegs) == 50_000 and found.classes == 10 and found.name == "cifar10"
    assert packed.decoded(found.jpegs[:3]).shape == (3, 32, 32, 3)
