"""Images larger than memory: the same bits as in memory, chunk by chunk; what is told, refused and kept."""

import gc
import io
import re
import shutil
import signal
import weakref

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from test_faults import signals_at
from test_parallel import SIZES, SPACE, images, noisy, small
from test_training import dense

from jaxnas import augmentation, checkpoint, data, epoch, feeding, folder, parallel, reading, reports, runner
from jaxnas.cli import main
from jaxnas.data import Batch
from jaxnas.datasets import stored
from jaxnas.datasets.stored import Stored, ahead, streamed
from jaxnas.epoch import compile_epoch, compile_init
from jaxnas.evaluation import recipes, training
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.hypergradient import Batches, first_order
from jaxnas.interruption import Interrupted
from jaxnas.search import bind
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import darts

STEP = 2 * 4 * 8 * 8 * 3  # bytes of the images of a step: two batches of four
ROW = darts(10, every=5, hypergradient=first_order())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten classes of five pictures of 8x8: 40 train, of which 20 and 12 are used, and 10 are held out."""
    place, draw = tmp_path_factory.mktemp("feeding") / "photos", np.random.default_rng(3)
    for kind in range(10):
        (place / f"class{kind}").mkdir(parents=True)
        for number in range(5):
            pixels = draw.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"class{kind}" / f"{number}.png")
    return place


def prepare(patch):
    """A network that compiles at once instead of the supernet, chunks of two steps, a look at each, no pictures."""
    patch(runner, "supernet", lambda space, mixing, layout: small(True)(space, mixing))
    patch(feeding, "CHUNK", 2 * STEP + 1)
    patch(epoch, "PACE", 0.0)
    patch(folder, "draw", lambda *_: [])
    patch(reports, "leave", lambda out, space: out / reports.NAME)


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    prepare(monkeypatch.setattr)


def parts(photos, most):
    """A split of 20 and 12 images: five steps, in chunks of two; and the statistics."""
    whole = data.opened(f"{photos}/")
    return reading.read(data.split(whole, fraction=0.8, valid_fraction=0.375), most=most)


def measured(search):
    """Something of the last batches."""
    del search
    bright = lambda half: (half.image.astype(np.float32).mean((1, 2, 3)) * half.label.astype(np.float32)).sum()
    return lambda state, batches: {"bright": bright(batches.train) + bright(batches.valid)}


def search(out, found, **options):
    options = {"batch": 4, "augment": noisy, "console": Console(quiet=True), "watch": Watch(measured, 1), **options}
    return runner.run([Stage(ROW, 2)], SPACE, found, jax.random.key(0), out=out, **options)


def left_by(result):
    """Records without clocks, and every array of the last state."""
    clocks = ("seconds", "images_per_second")
    told = [{k: v for k, v in record.items() if k not in clocks} for record in folder.read_records(result.folder)]
    return told, checkpoint.read(result.folder / "checkpoints", 2)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def in_memory(photos, tmp_path_factory):
    """The undisturbed search with all images on the device."""
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch.setattr)
        return left_by(search(tmp_path_factory.mktemp("whole") / "run", parts(photos, 10**9)[0]))


def test_one_look_finds_what_the_images_in_memory_say(photos):
    (kept, of_kept), (left, of_left) = parts(photos, 10**9), parts(photos, 0)
    assert [streamed(part.image) for part in left[:3]] == [True] * 3
    assert [type(part.image) for part in kept[:3]] == [np.ndarray] * 3
    same(of_kept, of_left)
    assert kept.digest == left.digest and "+" in left.digest
    split = data.split(data.load(f"{photos}/"), fraction=0.8, valid_fraction=0.375)
    assert split.digest == kept.digest
    same(of_kept, augmentation.statistics(split.train))


def test_a_search_chunk_by_chunk_has_the_bits_of_one_in_memory(photos, in_memory, tmp_path):
    told = io.StringIO()
    result = search(tmp_path / "run", parts(photos, 0)[0], console=Console(file=told, width=300))
    same(left_by(result), in_memory)
    text = "images: 6.14 kB stay on disk, .* each epoch reads them, 2 of its 5 steps \\(3.07 kB\\) at a time"
    assert re.search(text, told.getvalue())


@pytest.mark.parametrize("look", [3, 7])  # behind that many steps: inside a chunk, and in the second epoch
def test_left_inside_an_epoch_and_resumed_to_the_same_bits(photos, in_memory, look, tmp_path, monkeypatch):
    found = parts(photos, 0)[0]
    with monkeypatch.context() as patch:
        signals_at(look, signal.SIGTERM, patch)
        with pytest.raises(Interrupted):
            search(tmp_path / "run", found)
    same(left_by(search(tmp_path / "run", found, resume=True)), in_memory)


def test_begun_in_memory_and_resumed_from_disk(photos, in_memory, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signals_at(2, signal.SIGTERM, patch)
        with pytest.raises(Interrupted):
            search(tmp_path / "run", parts(photos, 10**9)[0])
    same(left_by(search(tmp_path / "run", parts(photos, 0)[0], resume=True)), in_memory)


def on_disk(batch):
    return batch._replace(
        image=Stored(lambda rows: batch.image[rows], np.arange(len(batch.label)), (8, 8, 3), np.dtype(np.uint8), True)
    )


@pytest.mark.parametrize("make", [parallel.mesh, parallel.pmapped])
def test_on_two_devices(make):
    """Neither 2 nor the chunk divides the numbers of images."""
    placement = make(jax.devices()[:2])
    bound = bind(ROW, SPACE, model=small(True), augment=noisy, axis_name=placement.axis_name)
    state = compile_init(bound.init, jax.random.key(0))(jax.random.key(0))
    halves, found = Batches(images(0, SIZES[0]), images(1, SIZES[1])), []
    for given in (halves, Batches(*map(on_disk, halves))):
        images_there = feeding.placed(given, placement, 4)
        program = compile_epoch(bound, images_there, 4, placement, SIZES)
        ended, sums, bad = program.run(
            placement.spread(state),
            images_there,
            placement.spread(jax.random.key(1)),
            np.int32(0),
            np.int32(program.steps),
        )
        assert int(bad) == -1
        found.append((jax.device_get(placement.single(ended).bilevel), jax.device_get(sums)))
    (one, sums), (other, sums_of_chunks) = found
    same(one, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sums, sums_of_chunks)  # added in chunks


def test_a_training_and_its_tests_chunk_by_chunk():
    draw = np.random.default_rng(0)
    whole = Batch(draw.integers(0, 255, (21, 4, 4, 1)).astype(np.uint8), draw.integers(0, 3, 21).astype(np.int32))
    on = Stored(lambda rows: whole.image[rows], np.arange(21), (4, 4, 1), np.dtype(np.uint8), True)
    recipe = recipes.small(epochs=1, batch=4)
    bound, plain = training.bind(dense(), recipe, 6, augment=augmentation.plain(augmentation.statistics(whole))), []
    prepare = augmentation.plain(augmentation.statistics(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "CHUNK", 2 * 4 * 16)
        for given in (whole, whole._replace(image=on)):
            there = feeding.placed(given, parallel.one(), 4)
            program = training.compile_epoch(bound, there, 4)
            state, _, bad = program.run(
                bound.init(jax.random.key(0)), there, jax.random.key(1), np.int32(0), np.int32(6)
            )
            assert int(bad) == -1
            plain.append((state.variables, training.compile_test(dense(), prepare, there, 4)(state.variables)))
    assert isinstance(there, feeding.Chunks) and there.steps == 2
    same(*plain)


def test_a_damaged_picture_is_told_before_the_run_and_one_that_goes_when_it_is_met(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    found = parts(tmp_path / "photos", 0)[0]
    for picture in (tmp_path / "photos").rglob("3.png"):
        picture.unlink()
    with pytest.raises(ValueError, match=r"3\.png is gone: put it back; a run goes on with --resume then"):
        search(tmp_path / "run", found)
    cut = tmp_path / "photos" / "class4" / "2.png"
    cut.write_bytes(cut.read_bytes()[:90])
    with pytest.raises(ValueError, match=r"class4/2\.png is damaged"):
        parts(tmp_path / "photos", 0)


def test_what_looks_at_all_images_at_once_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="all images of a half at once, and they do not fit"):
        search(tmp_path / "run", parts(photos, 0)[0], finish=lambda *_: None)
    assert not (tmp_path / "run").exists()


def test_the_command_line_decides_by_size(photos, answer, monkeypatch, tmp_path):
    command = ("search", "--strategy", "darts-first-order", "--space", "s2", "--dataset", f"{photos}/", "--epochs", 1)
    command += ("--channels", 2, "--depth", 3, "--batch", 4, "--devices", "one", "--out")
    status, out, err = answer(main, *command, tmp_path / "kept")
    assert (status, err) == (0, "") and "stay on disk" not in out
    monkeypatch.setattr(reading, "for_images", lambda devices: 0)
    status, out, err = answer(main, *command, tmp_path / "left")
    assert (status, err) == (0, "") and "stay on disk" in out and "reading all images" not in out
    records = [folder.read_records(tmp_path / name) for name in ("kept", "left")]
    kept, left = (record for (record,) in records)
    assert kept["genotype"] == left["genotype"] and kept["train_loss"] == pytest.approx(left["train_loss"], rel=1e-6)


def test_two_chunks_are_there_at_a_time():
    class Thing:
        pass

    made = []

    def make(number):
        thing = Thing()
        made.append((number, weakref.ref(thing)))
        return thing

    get = ahead(make)
    for number in range(6):
        thing = get(number, number + 1 if number < 5 else None)
        del thing
        gc.collect()
        assert [n for n, one in made if one() is not None and n not in (number, number + 1)] == []
    assert [number for number, _ in made] == [*range(6)]


def test_pieces_are_all_images_in_their_order(monkeypatch):
    monkeypatch.setattr(stored, "PIECE", 3 * 8 * 8 * 3)
    whole = images(0, 10)
    for image in (whole.image, on_disk(whole).image):
        found = list(stored.pieces(image, np.array([9, 2, 3, 0])))
        assert [rows.tolist() for rows, _ in found] == [[9, 2, 3], [0]]
        same(np.concatenate([pixels for _, pixels in found]), whole.image[[9, 2, 3, 0]])
    assert list(stored.pieces(whole.image[:0])) == []
