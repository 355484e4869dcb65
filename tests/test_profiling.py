"""A trace of a few steps: what is in it, that the numbers stay, where it cannot go."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas import profiling
from jaxnas.cli import main
from jaxnas.epoch import Program, run_epoch


def counting(steps):
    """An epoch whose steps add one to a number; what was asked of it, as (start, stop)."""
    step, asked = jax.jit(lambda state: state + jnp.float32(1)), []

    def run(state, data, key, start, stop):
        asked.append((int(start), int(stop)))
        for _ in range(start, stop):
            state = step(state)
        return state, {"train": {"loss": np.float32(stop - start), "moves": np.float32(stop - start)}}, np.int32(-1)

    return Program(run, steps, 0.0, {}, lambda state: state), asked


def steps_in(folder):
    """Numbers of the steps in the trace that Perfetto opens."""
    (path,) = folder.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "step")


@pytest.mark.parametrize(("steps", "epochs", "traced"), [(12, 1, [1, 2, 3]), (2, 1, [1]), (1, 1, [0]), (2, 2, [1])])
def test_some_steps_behind_the_first_are_traced_and_numbers_stay(tmp_path, steps, epochs, traced):
    program, asked = counting(steps)
    told, state = [], jnp.float32(0)
    with profiling.traced(tmp_path / "a" / "profile", told.append) as profile:
        for _ in range(epochs):
            state, means = run_epoch(profile(program), state, None, None, lambda done, means: None)
            assert means == {"train": {"loss": 1.0}}
    assert float(state) == steps * epochs
    assert [step for start, stop in asked for step in range(start, stop)] == [*range(steps)] * epochs
    assert steps_in(tmp_path) == traced
    assert len(told) == 1 and "https://ui.perfetto.dev" in told[0] and str(tmp_path / "a" / "profile") in told[0]
    assert list((tmp_path / "a" / "profile").glob("plugins/profile/*/*.xplane.pb"))  # what TensorBoard reads


def test_a_run_that_made_no_second_step_says_so(tmp_path):
    told = []
    with profiling.traced(tmp_path / "profile", told.append):
        pass
    assert told == ["no trace was written: the run made no second step."] and not any(tmp_path.iterdir())


def test_a_profiler_that_fails_does_not_stop_the_run(tmp_path, monkeypatch):
    def busy(*args, **options):
        raise RuntimeError("Profile has already been started")

    monkeypatch.setattr(jax.profiler, "start_trace", busy)
    program, _ = counting(5)
    told = []
    with profiling.traced(tmp_path, told.append) as profile:
        state, _ = run_epoch(profile(program), jnp.float32(0), None, None, lambda done, means: None)
    assert float(state) == 5 and told == ["no trace was written: Profile has already been started."]


@pytest.mark.parametrize("command", [("search", "--smoke"), ("evaluate", "DARTS_V2", "--smoke")])
def test_no_usable_place_is_refused_before_anything_runs(command, tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    status, out, err = answer(main, *command, "--profile", "file/profile", "--out", "run")
    assert status == 1 and not out and "is no folder; name another one." in err and "file/profile" in err
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
