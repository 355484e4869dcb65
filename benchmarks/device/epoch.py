"""One real epoch: JPEG bytes in, a search of the paper's size, and what its fifty epochs would take."""

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import packed
from benchmarks.child import ROOT
from benchmarks.device.speaker import Speaker, spanned


class Enough(Exception):
    """The seconds of the epoch are over."""


def measure(given: Mapping[str, Any], rows: tuple[str, ...], say: Speaker) -> None:
    """Seconds to unpack, to compile, and of the epoch.

    Args:
      given: the file of images, the strategy, sizes, the seconds after which the epoch is cut, epochs of a search.
      rows: none; there is one.
      say: what is told.
    """
    began = time.monotonic()
    read = packed.read(Path(given["images"])) if given["images"] else made_up()
    image = packed.pixels(read.jpegs, os.cpu_count() or 1)  # before JAX is loaded: its threads do not like to be copied
    unpacked = time.monotonic() - began

    import jax

    from benchmarks.device.facts import facts

    jax.config.update("jax_default_matmul_precision", "highest")
    say.facts(facts())
    program, spans, data, draw = prepared(given, read, image)
    key = jax.random.key(0)
    state = jax.block_until_ready(draw(key))
    say.turn()
    told = {"images": len(image), "image": list(image.shape[1:]), "set": read.name, "unpack_seconds": unpacked}
    told |= {"batch": given["batch"], "spans": spans, **one_epoch(program, state, data, key, given["seconds"])}
    say.row("epoch", {**told, **projected(told, given["epochs"])})


def prepared(given: Mapping[str, Any], read: packed.Packed, image: np.ndarray):
    """(the compiled epoch, when it was compiled, its images on the device, what draws a first state)."""
    import jax

    from benchmarks.device.step import among
    from jaxnas.augmentation import default_augmentation, statistics
    from jaxnas.data import Batch, Dataset, split
    from jaxnas.epoch import compile_epoch, compile_init, on_device, steps_per_epoch
    from jaxnas.names import SPACES, STRATEGIES
    from jaxnas.search import bind

    images = Batch(image, read.label)
    dataset = Dataset(name=read.name, train=images, test=images, classes=read.classes)  # the test part is not read
    halves = split(dataset)
    chosen = SPACES[given["space"]]
    space = among(chosen.make(given["channels"], given["depth"], read.classes, image=image.shape[1:]), given["ops"])
    method = STRATEGIES[given["strategy"]](given["epochs"] * steps_per_epoch(len(halves.train.label), given["batch"]))
    augment = default_augmentation(dataset, statistics(halves.train))
    search = bind(method.replace(decode=chosen.decode(method.decode)), space, augment=augment)
    data = on_device(halves.train, halves.valid)
    draw = compile_init(search.init, jax.random.key(0))
    program, span = spanned(partial(compile_epoch, search, data, given["batch"]))
    return program, {"compile": span}, data, draw


def one_epoch(program, state, data, key, most: float) -> dict[str, Any]:
    """The epoch, or what of it fits into the seconds: steps, seconds, means of the losses."""
    from jaxnas.epoch import run_epoch

    began, seen = time.perf_counter(), {}

    def look(steps: int, means: Mapping[str, Any]) -> None:
        seen.update(steps=steps, seconds=time.perf_counter() - began, means=means)
        if seen["seconds"] > most:
            raise Enough

    with contextlib.suppress(Enough):
        run_epoch(program, state, data, key, look)
    losses = {f"{player}_loss": told["loss"] for player, told in seen["means"].items()}
    return {"steps": seen["steps"], "steps_of_an_epoch": program.steps, "stretch_seconds": seen["seconds"], **losses}


def projected(told: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Seconds of an epoch, and of so many: those of the steps that were made, times the steps there are."""
    epoch = told["stretch_seconds"] / told["steps"] * told["steps_of_an_epoch"]
    whole = told["steps"] == told["steps_of_an_epoch"]
    rate = told["steps"] / told["stretch_seconds"]
    return {"epoch_seconds": epoch, "whole": whole, "steps_per_second": rate, "search_epochs": epochs} | {
        "search_seconds": epochs * epoch
    }


def made_up() -> packed.Packed:
    """For a rehearsal: some of the digits that come with the package, through a file as real images go."""
    with np.load(ROOT / "jaxnas" / "datasets" / "digits.npz") as file:
        image, label = file["image"][:64], file["label"][:64].astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        packed.write(path, packed.Packed("digits", 10, [packed.encoder(95)(one) for one in image], label))
        return packed.read(path)
