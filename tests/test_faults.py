"""What can happen to a run: killed at any moment, told to leave, damaged files, two in one folder, odd clocks."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import time

import faults
import jax
import numpy as np
import pytest
from conftest import CACHE
from rich.console import Console

from jaxnas import checkpoint, epoch, fitting, folder, interruption, parallel, runner
from jaxnas.interruption import Interrupted
from jaxnas.names import STRATEGIES

LAST = 2 * faults.EPOCHS


@pytest.fixture(scope="module")
def toy():
    """Toy searches, each of which is compiled once for all tests of this file."""
    known = {}

    def compile_once(search, data, batch, *more):
        name = (search.strategy.relaxation, search.strategy.mixing, search.strategy.solver, search.space, more[0].name)
        if name not in known:
            known[name] = epoch.compile_epoch(search, data, batch, *more)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        faults.prepare(patch.setattr)
        patch.setattr(fitting, "compile_epoch", compile_once)
        patch.setattr(faults, "rows", cached(faults.rows))
        yield


def cached(function):
    known = {}
    return lambda key: known.setdefault(key, function(key))


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The undisturbed run."""
    return faults.search(tmp_path_factory.mktemp("whole") / "run").folder


def same(out, other):
    for one, two in zip(faults.left_by(out), faults.left_by(other), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def signals_at(look, number, monkeypatch):
    """Sends this process a signal right before a look of the host, counted from 0 over all epochs."""
    looks, rest = iter(range(10**6)), interruption.rest

    def watched(program, part, asked):
        left = rest(program, part, asked)

        def run(*arguments):
            if next(looks) == look:
                os.kill(os.getpid(), number)
            return left.run(*arguments)

        return left._replace(run=run)

    monkeypatch.setattr(runner, "rest", watched)


def left_at(look, out, monkeypatch, match=".", **options):
    """Starts the toy search, or goes on with it, and tells it to leave at a look."""
    signals_at(look, signal.SIGTERM, monkeypatch)
    with pytest.raises(Interrupted, match=match):
        faults.search(out, **options)
    monkeypatch.undo()


def said_on_resuming(out):
    told = Console(file=io.StringIO(), width=600)
    faults.search(out, resume=True, console=told)
    return told.file.getvalue()


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C is heard also where the tests were started in the background, by a shell that lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(
    "look, text",
    [
        pytest.param(0, "epoch 1, after 1 of 6", marks=pytest.mark.smoke),
        (8, "epoch 2, after 3 of 6"),
        (17, "after epoch 3"),
        (22, "epoch 4,"),
    ],
)
def test_told_to_leave_inside_an_epoch_and_resumed_to_the_same_bits(whole, look, text, tmp_path, monkeypatch):
    """At the first step, inside an epoch, at a border of stages, inside the second stage."""
    signals_at(look, signal.SIGTERM, monkeypatch)
    with pytest.raises(Interrupted, match=text) as caught:
        faults.search(tmp_path / "run")
    assert caught.value.signal == signal.SIGTERM
    monkeypatch.undo()
    faults.search(tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)
    assert not (tmp_path / "run" / "unfinished").exists()


@pytest.mark.parametrize(
    "make",
    [
        parallel.mesh,
        pytest.param(parallel.pmapped, marks=pytest.mark.slow),
    ],
)
def test_two_devices_told_to_leave_inside_an_epoch_and_resumed(make, whole, tmp_path, monkeypatch):
    """A mesh ends in the numbers of one device; under pmap, where pixel noise differs, near them."""
    left_at(8, tmp_path / "run", monkeypatch, "epoch 2, after 3 of 6", placement=make(jax.devices()[:2]))
    faults.search(tmp_path / "run", resume=True, placement=make(jax.devices()[:2]))
    for one, two in zip(folder.read_records(tmp_path / "run"), folder.read_records(whole), strict=True):
        assert one["step"] == two["step"]
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-5 if make is parallel.mesh else 0.1)


def test_interrupted_twice_in_one_epoch(whole, tmp_path, monkeypatch):
    for look, resume in ((7, False), (1, True)):  # after steps 2 and 4 of the second epoch
        signals_at(look, signal.SIGINT, monkeypatch)
        with pytest.raises(Interrupted, match=f"after {4 if resume else 2} of 6") as caught:
            faults.search(tmp_path / "run", resume=resume)
        assert caught.value.signal == signal.SIGINT
        monkeypatch.undo()
    faults.search(tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)


def test_a_damaged_unfinished_epoch_is_run_from_its_beginning(whole, tmp_path, monkeypatch):
    left_at(8, tmp_path / "run", monkeypatch)
    damage(tmp_path / "run" / "unfinished" / "9", "cut")
    said = said_on_resuming(tmp_path / "run")
    assert "is damaged: going on after epoch 1." in said
    same(tmp_path / "run", whole)


def test_signals_are_given_back_and_a_second_one_is_not_waited_for():
    before = [signal.getsignal(number) for number in interruption.HEARD]
    with interruption.listening() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert [signal.getsignal(number) for number in interruption.HEARD] == before


# ---------------------------------------------------------------- every row


QUICK_ROWS = ("gdas",)  # the others are slow: a row compiles in seconds


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK_ROWS else pytest.mark.slow, id=n) for n in STRATEGIES]
)
def test_every_row_resumes_to_the_same_bits(toy, name, tmp_path, monkeypatch):
    """Left inside the second epoch and at the border of its two stages."""
    row = STRATEGIES[name]
    faults.search(tmp_path / "whole", row=row)
    for look, resume in ((8, False), (8, True)):
        match = "after 3 of 6" if not resume else "after epoch 3"
        left_at(look, tmp_path / "run", monkeypatch, match, row=row, resume=resume)
    faults.search(tmp_path / "run", row=row, resume=True)
    same(tmp_path / "run", tmp_path / "whole")


# ---------------------------------------------------------------- damage


def damage(state, how):
    """Of one state: all of its files cut in half, one bit turned in its largest, or its largest gone."""
    files = sorted((path for path in state.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    if how == "cut":
        for path in files:
            os.truncate(path, path.stat().st_size // 2)
    elif how == "bit":
        content = bytearray(files[0].read_bytes())
        content[len(content) // 2] ^= 16
        files[0].write_bytes(content)
    else:
        files[0].unlink()


@pytest.mark.parametrize("how", ["cut", "bit", "gone"])
def test_a_damaged_state_is_told_and_the_one_before_is_used(whole, how, tmp_path, monkeypatch):
    """The fifth of six epochs was the last when the disk failed."""
    left_at(29, tmp_path / "run", monkeypatch, "after epoch 5")
    damage(tmp_path / "run" / "checkpoints" / "5", how)
    said = said_on_resuming(tmp_path / "run")
    assert "warning: the state of epoch 5 is damaged" in said
    assert "going on after epoch 4." in said
    assert (tmp_path / "run" / "checkpoints" / "damaged-5").exists()
    same(tmp_path / "run", whole)


def test_the_only_state_there_ever_was_is_damaged(whole, tmp_path, monkeypatch):
    left_at(5, tmp_path / "run", monkeypatch, "after epoch 1")
    damage(tmp_path / "run" / "checkpoints" / "1", "cut")
    said = said_on_resuming(tmp_path / "run")
    assert "going on at the beginning." in said
    same(tmp_path / "run", whole)


def test_all_states_are_damaged(tmp_path):
    for number in (4, 5):
        checkpoint.save(tmp_path, number, {"a": np.arange(5)})
        damage(tmp_path / str(number), "cut")
    with pytest.raises(ValueError, match=r"no state in .* can be read \(epoch 5: .*epoch 4: .*start the run anew"):
        checkpoint.newest(tmp_path, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "5"]  # nothing was touched


def test_records_that_are_lost_take_their_states_with_them(whole, tmp_path):
    """A damaged line in the middle of the records: the epochs from it on are run again, if their state is there."""
    run = tmp_path / "run"
    faults.search(run, kept=LAST)
    lines = (run / "metrics.jsonl").read_bytes().split(b"\n")
    (run / "metrics.jsonl").write_bytes(b"\n".join([*lines[:3], b'\xff{"epoch"', *lines[4:]]))
    faults.search(run, kept=LAST, resume=True)
    same(run, whole)
    (run / "scores.npz").write_bytes((run / "scores.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"scores\.npz is damaged .*start the run anew"):
        faults.search(run, kept=LAST, resume=True)


@pytest.mark.parametrize("last", [1, 4, 6])
def test_a_run_whose_states_are_gone_is_refused_and_not_touched(whole, last, tmp_path, monkeypatch):
    """Its last epoch is one of the first, one of the others, or that of a finished run."""
    run = tmp_path / "run"
    if last == 6:
        faults.search(run)
    else:
        left_at(5 if last == 1 else 23, run, monkeypatch, f"after epoch {last}")
    shutil.move(run / "checkpoints", tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(
        ValueError, match=rf"{last} finished epochs .*no state is left in .*start the run anew in another"
    ):
        faults.search(run, resume=True)
    if last == 4:  # emptied, not removed
        (run / "checkpoints").mkdir()
        with pytest.raises(ValueError, match="no state is left"):
            faults.search(run, resume=True)
        (run / "checkpoints").rmdir()
    assert before == {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    shutil.move(tmp_path / "elsewhere", run / "checkpoints")
    faults.search(run, resume=True)
    same(run, whole)


def test_states_older_than_the_records_are_told(whole, tmp_path, monkeypatch):
    left_at(29, tmp_path / "run", monkeypatch, "after epoch 5")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "5")
    said = said_on_resuming(tmp_path / "run")
    assert "5 epochs are on record, and the newest state is of epoch 4: going on after epoch 4." in said
    same(tmp_path / "run", whole)


PATTERNS = ("runs[1]", "lr=[0.1,0.2]", "[!x]", "a*b", "what?")
PLAIN = ("a{b}", "sp ace", "ü", "new\nline", "$HOME", "per%20cent", "a#b", "a:b", "-dash", "mk[red]", "x[/b]")


@pytest.mark.parametrize("name", [*PATTERNS, *PLAIN])
@pytest.mark.parametrize("below", [(), ("deeper",)], ids=("last", "parent"))
def test_states_below_a_folder_of_any_name_are_read_back(name, below, tmp_path):
    place = tmp_path.joinpath(name, *below)
    (tmp_path / "a+b" / "1" / "ocdbt.process_0").mkdir(parents=True)  # what `a*b` stands for, as a pattern
    for number in (1, 2, 3):
        checkpoint.save(place, number, {"w": np.float32([number])})
    assert checkpoint.newest(place, 3) == (3, {})
    assert checkpoint.restore(place, 3, {"w": np.zeros(1, np.float32)}) == {"w": np.float32([3])}
    assert sorted(path.name for path in place.iterdir()) == ["2", "3"]


def test_a_run_below_a_pattern_is_left_and_resumed(whole, tmp_path, monkeypatch):
    left_at(9, tmp_path / "lr=[0.1]" / "run", monkeypatch, "in epoch 2")
    faults.search(tmp_path / "lr=[0.1]" / "run", resume=True)
    same(tmp_path / "lr=[0.1]" / "run", whole)


def test_a_state_that_cannot_be_read_back_ends_the_run_and_no_older_one_goes(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"w": np.arange(5)}, kept=1)
    monkeypatch.setattr(checkpoint, "_fault", lambda folder, epoch: "nothing is there")
    with pytest.raises(OSError, match=r"state of epoch 2 .*cannot be read \(nothing is there\): choose another folder"):
        checkpoint.save(tmp_path, 2, {"w": np.arange(5)}, kept=1)
    monkeypatch.undo()
    assert checkpoint.newest(tmp_path, 1)[0] == 1


def test_what_is_saved_stays_what_it_was(tmp_path):
    """A state that is changed, or another one that does not fit, while the first is being written."""
    state = {"key": jax.random.key(3), "w": np.arange(10**6, dtype=np.float32)}
    with checkpoint.saving(tmp_path) as save:
        save(1, state)
        state["w"][:] = -1
    found = checkpoint.restore(tmp_path, 1, jax.eval_shape(lambda: {"key": jax.random.key(0), "w": state["w"] + 0}))
    np.testing.assert_array_equal(found["w"], np.arange(10**6, dtype=np.float32))
    assert found["key"] == jax.random.key(3)
    with pytest.raises(ValueError):
        checkpoint.restore(tmp_path, 1, {"key": jax.random.key(0), "w": np.zeros(3, np.float32)})


# ---------------------------------------------------------------- folders and clocks


def test_two_processes_in_one_folder(whole):
    with folder.held(whole), pytest.raises(BlockingIOError, match="another process is writing the run"):
        faults.search(whole, resume=True)
    assert faults.search(whole, resume=True).records


def test_a_folder_that_may_not_be_written(whole, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o500)
    if os.access(tmp_path / "mine", os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OSError, match="choose another folder with --out"):
        faults.search(tmp_path / "mine" / "run")


def test_clocks_going_backwards(whole, tmp_path, monkeypatch):
    """Dates of files in the future, and a clock that loses an hour whenever it is asked."""
    left_at(29, tmp_path / "run", monkeypatch, "after epoch 5")
    for path in (tmp_path / "run" / "checkpoints" / "4").rglob("*"):
        os.utime(path, (4e9, 4e9))
    hours = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 2e9 - 3600.0 * next(hours))
    faults.search(tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)


def test_killed_between_the_claim_and_its_first_line(whole, tmp_path):
    (tmp_path / "config.json").touch()
    faults.search(tmp_path, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == [3, 3]
    same(tmp_path, whole)


# ---------------------------------------------------------------- killed at random moments


def lives(out, cache, kind, draw, wanted):
    """Ends the run in `out` at random moments and starts it again, until it is over; how often it was ended.

    Moments are counted from the start of the process (it traces and compiles) or from its first look (it runs).
    """
    context, ended = multiprocessing.get_context("forkserver"), 0
    context.set_forkserver_preload(["faults"])
    while True:
        started, looks = context.Event(), bool(draw.random() < 0.8)
        process = context.Process(target=faults.attempt, args=(out, cache, started, looks))
        process.start()
        while process.is_alive() and not started.wait(0.05):
            pass
        process.join(draw.uniform(0, 1.5 if looks else 4) if ended < wanted else 120)
        if process.is_alive():
            os.kill(process.pid, kind)
            process.join(60)
        if process.exitcode == 0:
            return ended
        assert process.exitcode in (-kind, 128 + kind), process.exitcode
        ended += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind, wanted", [("kill", 25), ("term", 12), ("interrupt", 12)])
def test_ended_at_random_moments(whole, tmp_path, kind, wanted, seed, capsys):
    """One search after the other, each ended again and again until it is over, and each compared."""
    draw, count, runs = np.random.default_rng(seed), 0, 0
    while count < wanted:
        count += lives(tmp_path / f"run-{runs}", CACHE, faults.KINDS[kind], draw, wanted - count)
        same(tmp_path / f"run-{runs}", whole)
        runs += 1
    with capsys.disabled():
        print(f"\n{kind}, seed {seed}: {count} faults, {runs} searches, all ended in the same bits", flush=True)
