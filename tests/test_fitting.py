"""Which of several layouts a run is compiled with, where the device tells how much memory it has."""

import io
import json

import faults
import jax
import numpy as np
import pytest
from rich.console import Console

from jaxnas import epoch, fitting, runner
from jaxnas.fitting import first_that_fits
from jaxnas.memory import Need, Room
from jaxnas.spaces.layout import Layout

CHOICES = (Layout(), Layout(cells=2))
NEEDS = {"kept": 300, "recomputed": 200, "in loops": 100}  # bytes


@pytest.mark.parametrize(
    ("limit", "found"), ((None, "kept"), (300, "kept"), (299, "recomputed"), (100, "in loops"), (1, "in loops"))
)
def test_the_first_that_fits_is_taken_and_no_other_is_compiled_after_it(limit, found):
    compiled, said = [], []
    compile_one = lambda name: compiled.append(name) or name
    needed = lambda name: Need(0, 0, NEEDS[name])
    taken = first_that_fits([*NEEDS], compile_one, needed, Room(None, limit), said.append)
    assert taken == (found, found)  # the layout, and its program
    assert compiled == [*NEEDS][: [*NEEDS].index(found) + 1] and len(said) == len(compiled) - 1
    assert all(f"needs {NEEDS[name]} bytes" in text for name, text in zip(compiled, said, strict=False))


def test_what_does_not_fit_in_another_process_is_not_taken_in_this_one(monkeypatch):
    said = []
    monkeypatch.setattr(fitting, "everywhere", lambda here: False)
    taken = first_that_fits([*NEEDS], str, lambda name: Need(0, 0, 1), Room(None, 10), said.append)
    assert taken == ("in loops", "in loops") and len(said) == 2


def test_a_run_is_compiled_again_to_fit_and_its_numbers_are_the_same(tmp_path, monkeypatch):
    faults.prepare(monkeypatch.setattr)
    laid_out, programs, text = [], [], io.StringIO()
    toy = runner.supernet

    def supernet(space, mixing, layout):
        laid_out.append(layout)
        return toy(space, mixing, layout)

    def compile_epoch(*args):
        programs.append(epoch.compile_epoch(*args))
        return programs[-1]

    monkeypatch.setattr(runner, "supernet", supernet)
    monkeypatch.setattr(fitting, "compile_epoch", compile_epoch)
    alone = faults.search(tmp_path / "alone")
    del laid_out[:], programs[:]
    monkeypatch.setattr(runner, "choices", lambda: CHOICES)
    monkeypatch.setattr(fitting, "room", lambda *_: Room(10**9, 1000))
    with pytest.raises(MemoryError, match="has 1 kB in all"):  # nor does the last fit
        faults.search(tmp_path / "small", console=Console(file=text, width=200))
    assert len(programs) == 2 and set(CHOICES) == set(laid_out)
    assert text.getvalue().count("compiled again") == 1

    limits = iter([Room(10**9, 1000), Room(10**9, 10**9), Room(10**9, 1000), Room(10**9, 10**9)])
    monkeypatch.setattr(fitting, "room", lambda *_: next(limits))
    found = faults.search(tmp_path / "found")
    assert len(programs) == 6 and laid_out[-1] == CHOICES[1]  # what comes behind the steps has it too
    told = json.loads((tmp_path / "found" / "result.json").read_text())["layout"]
    assert told == {"edges": "recomputed", "cells": 2, "one_pass": True, "remat": "kept"}
    jax.tree.map(np.testing.assert_array_equal, found.state.bilevel, alone.state.bilevel)
