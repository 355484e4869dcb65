"""A whole run: what it writes, that it repeats and resumes, and what it says when something is wrong."""

import contextlib
import errno
import io
import json
import os
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import two_cells
from rich.console import Console

from jaxnas import checkpoint, epoch, folder, reports
from jaxnas.data import Batch, Split
from jaxnas.epoch import Diverged, compile_init
from jaxnas.evaluation.diagnostics import Watch
from jaxnas.evaluation.stopping import Verdict
from jaxnas.hypergradient import first_order
from jaxnas.record import measures
from jaxnas.refusals import Lopsided, check, lopsided
from jaxnas.runner import run
from jaxnas.search import bind
from jaxnas.spaces.darts import SEARCHED, darts
from jaxnas.spaces.genotype import from_json, genotype, to_json
from jaxnas.spaces.space import Gates, Space
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import darts as row
from jaxnas.strategies.penalty import entropy

SPACE = two_cells(darts(channels=2, layers=3, classes=4, image=(8, 8, 1))).replace(ops=(SEARCHED[0], *SEARCHED[3:5]))


def images(seed, count):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 4, count).astype(np.int32)
    image = draw.integers(0, 60, (count, 8, 8, 1)) + 40 * label[:, None, None, None]
    return Batch(image.astype(np.uint8), label)


DATA = Split(images(0, 10), images(1, 9), images(2, 4), "digest of the split")


def augment(key, pixels):
    noise = 0.1 * jax.random.normal(key, pixels.shape)
    return pixels.astype(jnp.float32) / 100.0 + noise


def search_in(out, *, seed=0, data=DATA, epochs=3, strategy=None, stages=None, **options):
    stages = stages or [Stage(strategy or row(9, hypergradient=first_order(), every=3), epochs)]
    options = {"augment": augment, "batch": 4, "settings": {"seed": seed}, "console": Console(quiet=True), **options}
    return run(stages, SPACE, data, jax.random.key(seed), out=out, **options)


def interrupt(records):
    """A rule that is a Ctrl-C after the second epoch of a stage, before it is recorded."""
    if len(records) == 2:
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return search_in(tmp_path_factory.mktemp("run") / "a")


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures take longer than these searches; one test looks at them."""
    monkeypatch.setattr(folder, "draw", lambda *_: [])
    monkeypatch.setattr(reports, "leave", lambda out, space: out / reports.NAME)


pytestmark = pytest.mark.usefixtures("undrawn")


def numbers(records):
    """What must repeat: everything but clocks."""
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]


def test_a_run_writes_everything(result):
    out = result.folder
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2, 3]
    assert [r["step"] for r in records] == [3, 6, 9]  # 10 images, batches of 4: the last one is filled up
    assert records == result.records
    assert from_json((out / "genotype.json").read_text()) == result.genotype
    assert records[-1]["genotype"] == json.loads(to_json(result.genotype))
    told = json.loads((out / "result.json").read_text())
    assert told["config"]["split"] == DATA.digest and told["config"]["seed"] == 0
    assert told["versions"]["jax"] == jax.__version__ and told["devices"]["present"] == jax.device_count()
    assert 0 < told["seconds"]["compile"] < told["seconds"]["total"] and told["memory_bytes"]["peak"] > 1e7
    for picture in ("cells.png", "alpha.png", "curves.png"):
        assert (out / picture).read_bytes()[:4] == b"\x89PNG"
    page = (out / "report.html").read_text()
    assert "3 of 3 epochs." in page and page.count("<figure") == 1 + 2 + 7  # cells, alpha of each, curves
    tables = folder.read_scores(out)
    assert {cell: table.shape for cell, table in tables.items()} == dict.fromkeys(("normal", "reduce"), (3, 14, 3))
    np.testing.assert_allclose(tables["normal"].sum(-1), 1, rtol=1e-5)


def test_a_finished_search_goes_on_where_its_schedule_is_the_same(result, tmp_path):
    """Two epochs, then a third, of the nine steps that the cosine was made for: the bits of three in one sitting."""
    first = search_in(tmp_path / "run", epochs=2)
    again = search_in(tmp_path / "run", epochs=3, resume=True)
    assert numbers(again.records)[2] == numbers(result.records)[2]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again.state.bilevel, result.state.bilevel)))
    assert json.loads((tmp_path / "run" / "result-2.json").read_text())["last"] == first.records[-1]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == [3]
    assert len(search_in(tmp_path / "run", epochs=3, resume=True).records) == 3
    with pytest.raises(ValueError, match=r"More epochs would change the past.*--set weights\.rate_steps=9"):
        search_in(tmp_path / "run", epochs=4, strategy=row(12, hypergradient=first_order(), every=3), resume=True)


def test_a_search_that_a_rule_ended_is_not_made_longer(tmp_path):
    stop = lambda records: Verdict(1, "enough") if len(records) == 1 else None
    search_in(tmp_path / "run", epochs=2, stop=stop)
    with pytest.raises(ValueError, match=r"a rule ended the search in .* at epoch 1: more epochs change nothing"):
        search_in(tmp_path / "run", epochs=3, resume=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == [2]


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not(result, tmp_path):
    again, other = search_in(tmp_path / "b"), search_in(tmp_path / "c", seed=1)
    assert numbers(again.records) == numbers(result.records)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), again.state.bilevel, result.state.bilevel)
    assert all(jax.tree.leaves(same))
    assert numbers(other.records) != numbers(result.records)


def test_numbers_do_not_depend_on_how_often_the_host_looks(result, tmp_path, monkeypatch):
    monkeypatch.setattr(epoch, "PACE", 1e9)
    assert numbers(search_in(tmp_path / "b").records) == numbers(result.records)


def test_a_first_state_is_drawn_by_a_program_of_its_own():
    key, search = jax.random.key(3), bind(row(9), SPACE)
    drawn, plain = compile_init(search.init, key)(key), jax.jit(search.init)(key)
    chex.assert_trees_all_equal(drawn.bilevel, plain.bilevel)


def test_what_fails_on_the_thread_fails_at_the_call():
    unknown = jax.ffi.ffi_call("no_such_thing", jax.ShapeDtypeStruct((), jnp.float32))
    draw = compile_init(lambda key: unknown(), jax.random.key(0))
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_thing"):
        draw(jax.random.key(0))


def test_a_stopped_run_resumes_to_the_same_end(result, tmp_path):
    """And each epoch is told to an observer once, with what is on disk."""
    seen = []
    observe = lambda record, scores: seen.append((record, {cell: np.array(table) for cell, table in scores.items()}))
    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "b", stop=interrupt, observe=observe)
    assert len(folder.read_records(tmp_path / "b")) == 1
    resumed = search_in(tmp_path / "b", resume=True, observe=observe)
    assert [record for record, _ in seen] == folder.read_records(tmp_path / "b")
    for cell, tables in folder.read_scores(tmp_path / "b").items():
        np.testing.assert_array_equal(tables, [scores[cell] for _, scores in seen])
    assert numbers(resumed.records) == numbers(result.records)
    np.testing.assert_array_equal(resumed.state.bilevel.alpha["normal"], result.state.bilevel.alpha["normal"])


def test_a_record_without_its_checkpoint_is_forgotten(result, tmp_path, monkeypatch):
    """A crash between the two: the epoch is run again."""
    saving = checkpoint.saving

    @contextlib.contextmanager
    def crash(where, kept):
        with saving(where, kept) as save:

            def until_two(number, state):
                if number == 2:
                    raise RuntimeError("power cut")
                save(number, state)

            yield until_two

    monkeypatch.setattr(checkpoint, "saving", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        search_in(tmp_path / "b")
    monkeypatch.setattr(checkpoint, "saving", saving)
    with open(tmp_path / "b" / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "st')  # and half a line
    assert len(folder.read_records(tmp_path / "b")) == 2
    assert numbers(search_in(tmp_path / "b", resume=True).records) == numbers(result.records)


def test_two_stages_run_on_and_resume(tmp_path):
    """The second stage keeps what the first liked best; an interrupted second stage goes on from its own state."""

    def drop_worst(space: Space, scores) -> Space:
        return space.with_alive({c: g.ops > g.ops.min(-1, keepdims=True) for c, g in scores.items()})

    strategy = row(6, hypergradient=first_order(), every=3)
    stages = [Stage(strategy, 1), Stage(strategy, 3, drop_worst)]
    whole = search_in(tmp_path / "a", stages=stages)
    assert [r["stage"] for r in whole.records] == [0, 1, 1, 1]
    assert (folder.read_scores(tmp_path / "a")["normal"][-1] == 0).sum() == 14  # one dead operation on each edge

    with pytest.raises(KeyboardInterrupt):
        search_in(tmp_path / "b", stages=stages, stop=interrupt)
    assert numbers(search_in(tmp_path / "b", stages=stages, resume=True).records) == numbers(whole.records)


def sizes(search):
    """A measure that is quick to compile: the step, and whether the batches are those of the data."""
    return lambda state, batches: {
        "at": state.bilevel.step,
        "first": (batches.valid.image.shape == (4, 8, 8, 1)) & (batches.train.label < 4).all(),
    }


def test_a_rule_ends_a_run_and_names_the_answer(tmp_path):
    """Stopped after epoch 4 of 6 with the genotype of epoch 3: everything says so, and resuming repeats it."""
    rule = lambda records: Verdict(3, "enough") if len(records) == 4 else None
    console = Console(file=io.StringIO(), width=200)
    options = {"epochs": 6, "stop": rule, "watch": Watch(sizes, every=2), "kept": 3}
    ended = search_in(tmp_path / "b", console=console, **options)
    assert ended.stopped == (3, "enough") and len(ended.records) == 4
    assert json.loads(to_json(ended.genotype)) == ended.records[2]["genotype"]
    assert json.loads((tmp_path / "b" / "genotype.json").read_text()) == ended.records[2]["genotype"]
    assert json.loads((tmp_path / "b" / "result.json").read_text())["answer"]["epoch"] == 3
    assert [r.get("measured") for r in ended.records] == [
        {"at": 3.0, "first": 1.0},
        None,
        {"at": 9.0, "first": 1.0},
        None,
    ]
    assert re.search(r"memory: .* \(a step .*, images .*, state .*\)", console.file.getvalue())
    assert "stopped after epoch 4: enough; the answer is the genotype of epoch 3." in console.file.getvalue()
    assert len([p for p in (tmp_path / "b" / "checkpoints").iterdir() if p.name.isdigit()]) == 3
    again = search_in(tmp_path / "b", resume=True, **options)
    assert again.records == ended.records and again.stopped == ended.stopped and again.genotype == ended.genotype


def test_nan_stops_and_keeps_the_last_good_state(tmp_path):
    poison = entropy(lambda step: jnp.where(step >= 7, jnp.nan, 0.0))
    strategy = row(9, hypergradient=first_order()).replace(penalty=poison)
    with pytest.raises(Diverged, match=r"step 7 .*epoch 3; the state after epoch 2 is kept"):
        search_in(tmp_path / "b", strategy=strategy)
    assert len(folder.read_records(tmp_path / "b")) == 2
    like = jax.eval_shape(bind(strategy, SPACE).init, jax.random.key(0))
    kept = checkpoint.restore(tmp_path / "b" / "checkpoints", 2, like)
    assert int(kept.bilevel.step) == 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((kept.bilevel.alpha, kept.bilevel.weights)))


def test_nan_at_once(tmp_path):
    with pytest.raises(Diverged, match=r"step 0 .*no epoch was finished"):
        search_in(tmp_path / "b", augment=lambda key, pixels: pixels.astype(jnp.float32) * jnp.nan)


def test_folder_in_use(result):
    with pytest.raises(FileExistsError, match="in use: choose another folder with --out"):
        search_in(result.folder)


def test_resume_of_another_configuration(result):
    with pytest.raises(ValueError, match=r"batch was 4, now 5"):
        search_in(result.folder, resume=True, batch=5)


def test_resume_of_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to continue"):
        search_in(tmp_path / "none", resume=True)


def test_out_is_a_file(tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(OSError, match="b"):
        search_in(tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"


def test_full_disk(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match=r"no space left for the run in .*--resume") as caught:
        search_in(tmp_path / "b")
    assert caught.value.errno == errno.ENOSPC


def test_no_room_for_a_state(tmp_path, monkeypatch):
    usage = checkpoint.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match=r"no space left for the run in .*--resume"):
        search_in(tmp_path / "b")
    assert (tmp_path / "b" / "metrics.jsonl").exists()  # the epoch is told; it will be run again


@pytest.mark.parametrize(
    "change, text",
    [
        (
            {"data": DATA._replace(train=Batch(DATA.train.image[:, :6], DATA.train.label))},
            r"train images are \(6, 8, 1\)",
        ),
        (
            {"data": DATA._replace(valid=Batch(DATA.valid.image, DATA.valid.label + 2))},
            "valid label 5 is outside the 4",
        ),
        ({"data": DATA._replace(train=Batch(DATA.train.image, DATA.train.label - 1))}, "train label -1 is outside"),
        ({"batch": 0}, "batch=0"),
        ({"epochs": 0}, r"epochs=\[0\]"),
    ],
)
def test_bad_input(tmp_path, change, text):
    with pytest.raises(ValueError, match=text):
        search_in(tmp_path / "b", **change)
    assert not (tmp_path / "b").exists()


def test_measures():
    scores = {"normal": Gates(np.full((2, 4), 0.25), np.ones(2)), "reduce": Gates(np.eye(2, 4), np.ones(2))}
    chosen = genotype("s", {"normal": [("skip_connect", 0, 1), ("a", 0, 1)]}, {"normal": [1]})
    found = measures({"train": {"loss": 2.0}}, scores, chosen)
    assert found == {"train_loss": 2.0, "alpha_entropy": pytest.approx(np.log(4) / 2), "skips": 1}


def test_another_way_to_finish(tmp_path, result):
    """The genotype of the run comes from the last state; the records keep what alpha says."""
    seen = []

    def finish(search, state, data, key, batch, tell):
        tell(1, 2)
        seen.append((int(state.bilevel.step), data.valid.label.shape, batch))
        return genotype(SPACE.name, {c: [("skip_connect", 0, 2)] for c in SPACE.cells}, {c: [2] for c in SPACE.cells})

    found = search_in(tmp_path / "a", finish=finish)
    assert seen == [(9, (9,), 4)] and found.genotype.count("skip_connect") == 2
    assert from_json((found.folder / "genotype.json").read_text()) == found.genotype
    assert json.loads((found.folder / "result.json").read_text())["genotype"] == json.loads(to_json(found.genotype))
    assert numbers(found.records) == numbers(result.records)


def test_a_half_of_one_class_is_told():
    """Two classes, and by chance one of them alone among the images that move alpha."""
    one = DATA.valid._replace(label=np.zeros_like(DATA.valid.label) + 1)
    assert "all 9 valid images, which move alpha, are of class 1: nothing" in lopsided(DATA._replace(valid=one))
    assert lopsided(DATA) == ""
    with pytest.warns(Lopsided, match="which move the weights, are of class 1"):
        check(SPACE, DATA._replace(train=one), 4, [Stage(row(9), 1)])
