"""Images in folders: parts, classes, sizes and modes, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from jaxnas import memory
from jaxnas.data import load, split
from jaxnas.datasets import folders
from jaxnas.datasets.stored import streamed


def picture(path, size=(8, 8), mode="RGB", value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    pixels = np.random.default_rng(abs(hash(path.name)) % 2**32).integers(0, 256, (*size, *channels), np.uint8)
    pixels = np.full_like(pixels, value) if value is not None else pixels
    Image.fromarray(pixels, mode).save(path)
    return pixels


def pets(root, count=6, **options):
    return {
        kind: [picture(root / kind / f"{number}.png", **options) for number in range(count)] for kind in ("cat", "dog")
    }


def test_a_sub_folder_is_a_class_and_pixels_are_those_of_the_files(tmp_path):
    made = pets(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    found = load(f"{tmp_path}/")
    assert (found.classes, found.name, found.train.image.shape[1:]) == (2, tmp_path.name, (8, 8, 3))
    assert len(found.train.label) == 10 and len(found.test.label) == 2  # a fifth of twelve
    pixels = {(image.tobytes(), int(y)) for part in (found.train, found.test) for image, y in zip(*part, strict=True)}
    assert pixels == {(one.tobytes(), y) for y, kind in enumerate(("cat", "dog")) for one in made[kind]}


@pytest.mark.parametrize(
    ("parts", "train", "held"),
    [
        (("train", "test"), 12, 12),
        (("train", "val"), 12, 12),
        (("train", "valid", "test"), 24, 12),
        (("training", "validation", "testing"), 24, 12),
        (("train",), 10, 2),
    ],
)
def test_parts_are_folders_of_their_names(tmp_path, parts, train, held):
    for part in parts:
        pets(tmp_path / part)
    found = load(f"{tmp_path}/")
    assert (len(found.train.label), len(found.test.label)) == (train, held)


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(40, 70), (50, 50)], 32),
        ([(90, 70), (64, 100)], 64),
        ([(10, 12), (9, 20)], 32),
        ([(300, 240), (224, 500)], 224),
    ],
)
def test_images_of_many_sizes_are_scaled_and_cut_to_one(tmp_path, sizes, side):
    for number, one in enumerate(sizes * 3):
        picture(tmp_path / "a" / f"{number}.png", one)
        picture(tmp_path / "b" / f"{number}.png", one)
    assert load(f"{tmp_path}/").train.image.shape[1:] == (side, side, 3)


def test_the_middle_is_kept(tmp_path):
    """A white square in the middle of a wide black image."""
    for kind in ("a", "b"):
        for number in range(4):
            picture(tmp_path / kind / f"{number}.png", (32, 33))
        wide = np.zeros((32, 96, 3), np.uint8)
        wide[:, 32:64] = 255
        Image.fromarray(wide).save(tmp_path / kind / "wide.png")
    parts, names = folders.opened(tmp_path)
    train, labels = parts[0]
    assert (
        names == ("a", "b")
        and sum(bool((one == 255).all()) for one in np.asarray(train)) == 2
        and labels.tolist() == [0] * 5 + [1] * 5
    )


@pytest.mark.parametrize(("modes", "channels"), [(("L", "LA"), 1), (("L", "RGB"), 3), (("RGBA", "RGB"), 3)])
def test_images_are_grey_if_all_are(tmp_path, modes, channels):
    for number, mode in enumerate(modes * 3):
        picture(tmp_path / "a" / f"{number}.png", mode=mode)
        picture(tmp_path / "b" / f"{number}.png", mode=mode)
    assert load(f"{tmp_path}/").train.image.shape[1:] == (8, 8, channels)


def test_jpeg_files_and_sixteen_bits(tmp_path):
    for kind in ("a", "b"):
        for number in range(3):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / kind / f"{number}.JPG")
            Image.fromarray(np.full((8, 8), 257 * 200, np.uint16)).save(tmp_path / kind / f"{number}.png")
    assert np.abs(load(f"{tmp_path}/").train.image.astype(int) - 200).max() <= 2


def test_a_search_can_be_split_from_it(tmp_path):
    pets(tmp_path)
    assert [len(part.label) for part in split(load(f"{tmp_path}/"))[:3]] == [5, 5, 2]


REFUSED = {
    "no images": (lambda root: (root / "cat").mkdir(), FileNotFoundError, "has 0 images in 1 sub-folders"),
    "one class": (lambda root: picture(root / "cat" / "1.png"), FileNotFoundError, "two at least"),
    "nothing": (lambda root: None, FileNotFoundError, "has 0 images in 0 sub-folders"),
    "a broken file": (
        lambda root: pets(root) and (root / "cat" / "x.png").write_bytes(b"no"),
        ValueError,
        "x.png is no image",
    ),
    "a file cut short": (
        lambda root: pets(root) and _cut(root / "cat" / "1.png"),
        ValueError,
        "1.png is (damaged|no image)",
    ),
    "a class that is only held out": (
        lambda root: pets(root / "train") and pets(root / "test") and picture(root / "test" / "cow" / "1.png"),
        ValueError,
        "classes cow, of which there is nothing to train on",
    ),
}


def _cut(path):
    path.write_bytes(path.read_bytes()[:90])


@pytest.mark.parametrize(("make", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(tmp_path, make, error, text):
    make(tmp_path)
    with pytest.raises(error, match=text):
        load(f"{tmp_path}/")


def test_more_than_a_quarter_of_the_free_memory_stays_on_disk(tmp_path, monkeypatch):
    pets(tmp_path)
    whole = load(f"{tmp_path}/")
    needed = 12 * 8 * 8 * 3
    monkeypatch.setattr(memory, "free_here", lambda: 4 * needed)
    assert isinstance(load(f"{tmp_path}/").train.image, np.ndarray)
    monkeypatch.setattr(memory, "free_here", lambda: 4 * needed - 1)
    found = load(f"{tmp_path}/")
    assert streamed(found.train.image) and streamed(found.test.image)
    np.testing.assert_array_equal(found.train.image, whole.train.image)
    assert split(found).digest == split(whole).digest.partition("+")[0]  # of pixels that nobody has read


def test_a_folder_without_its_slash_is_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pets(tmp_path / "pets")
    with pytest.raises(ValueError, match="pets is a folder here: write pets/ to read its images"):
        load("pets")
    assert load("pets/").classes == 2
