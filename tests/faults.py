"""Searches of a second, to be killed: a toy network, two stages, six epochs of six steps, the host looks at each."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from test_product import toy

from jaxnas import checkpoint, epoch, folder, interruption, reports, runner
from jaxnas.data import Batch, Split
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.stages import progressive
from jaxnas.strategies.algorithms import p_darts
from jaxnas.strategies.decoding import argmax_edges

STEPS, EPOCHS = 6, 3


def images(seed, count=4 * STEPS):
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 255, (count, 4, 4, 12)).astype(np.uint8)
    return Batch(pixels, draw.integers(0, 3, count).astype(np.int32))


DATA = Split(images(0), images(1), images(2), "digest")
FOUND = nas_bench_201(channels=12, cells_per_stage=1, classes=3, image=(4, 4, 12))
SPACE = FOUND.replace(ops=FOUND.ops[:3])


def rows(row, epochs=EPOCHS):
    """Two stages of a row: the second with the two best operations of each edge."""
    strategies = [row(STEPS * epochs, every=STEPS, alpha_rate=0.1).replace(decode=argmax_edges())] * 2
    return progressive(strategies, [SPACE, SPACE], epochs, keep=(3, 2))


def search(out, *, row=p_darts, **options):
    """A run on the toy network, with noise in its pixels and no pictures."""
    augment = lambda key, pixels: pixels / 255.0 + 0.1 * jax.random.normal(key, pixels.shape)
    augment_float = lambda key, pixels: augment(key, pixels.astype(jnp.float32))
    options = {"batch": 4, "augment": augment_float, "console": Console(quiet=True), **options}
    return runner.run(rows(row), SPACE, DATA, jax.random.key(0), out=out, **options)


def prepare(patch=setattr):
    """The toy instead of the supernet, a look after every step, no pictures."""
    patch(runner, "supernet", lambda space, mixing, layout: toy(space, mixing))
    patch(epoch, "PACE", 0.0)
    patch(folder, "draw", lambda *_: [])
    patch(reports, "leave", lambda out, space: out / reports.NAME)


def slowly(told):
    """`rest`, with a pause at each look, so that a search runs for a second and not only compiles."""

    def watched(*arguments):
        left = interruption.rest(*arguments)

        def run(*given):
            told()
            time.sleep(0.02)
            return left.run(*given)

        return left._replace(run=run)

    return watched


def attempt(out, cache, started, at_first_look):
    """One life of a process: starts the run in `out` or goes on with it; a signal ends it as the command line does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what orbax says when it dies
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    prepare()
    runner.rest = slowly(started.set)
    if not at_first_look:
        started.set()
    try:
        search(out, resume=(out / "config.json").exists())
    except KeyboardInterrupt as error:  # `Interrupted` is one, too
        os._exit(128 + getattr(error, "signal", signal.SIGINT))


def left_by(out):
    """Everything that must repeat, bit for bit: records without clocks, scores, the last state, the genotype."""
    clocks = ("seconds", "images_per_second")
    told = [{k: v for k, v in record.items() if k not in clocks} for record in folder.read_records(out)]
    state = checkpoint.read(out / "checkpoints", 2 * EPOCHS)
    return told, folder.read_scores(out), state, (out / "genotype.json").read_text()


KINDS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}
