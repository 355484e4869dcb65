"""What objects say of themselves: a few lines, with what a reader asks first."""

from importlib.metadata import version

import pytest

import jaxnas as jn
from jaxnas.spaces.published import DARTS_V2
from jaxnas.stages import Stage, keep_best

SPACE = jn.spaces.darts(16, 8, 10)
PARTS = jn.data.split(jn.data.load("digits"))

SAID = {
    "strategy": (jn.pc_darts(1000), ["Strategy(relaxation=", "edge_normalized", "mixing=partial_channels", "decode="]),
    "second order": (jn.darts(1000), ["alternating(", "unrolled", "top_edges"]),
    "space": (
        SPACE,
        ["Space('darts': 8 layers", "normal, reduce", "14 edges x 8 operations", "32 x 32 x 3"],
    ),
    "search": (jn.bind(jn.gdas(10), SPACE), ["Search in Space('darts'", "by Strategy("]),
    "stage": (Stage(jn.darts(10), 3), ["Stage(3 epochs, Strategy("]),
    "a later stage": (Stage(jn.darts(10), 3, keep_best(2)), ["reshape=keep_best"]),
    "data": (jn.data.load("digits"), ["Dataset('digits': 1,438 train, 359 test images 8 x 8 x 1, 10 classes)"]),
    "split": (PARTS, ["Split(719 train, 719 valid, 359 test images 8 x 8 x 1", PARTS.digest[:12]]),
    "genotype": (DARTS_V2, ["Genotype('darts'", "normal: sep_conv_3x3 0>2", "reduce: max_pool_3x3 0>2", "out 2 3 4 5"]),
}


@pytest.mark.parametrize(("thing", "parts"), SAID.values(), ids=SAID)
def test_a_few_lines_say_what_it_is(thing, parts):
    said = repr(thing)
    assert len(said.splitlines()) <= 5 and all(part in said for part in parts), said
    assert not any(word in said for word in ("<function", "object at 0x", "array(", "functools.partial"))


def test_a_notebook_shows_the_cells_of_a_genotype():
    shown = DARTS_V2._repr_svg_()
    assert shown.startswith("<?xml") and shown == DARTS_V2._repr_svg_()
    assert all(f'id="{cell}-edge-{i}"' in shown for cell in DARTS_V2.names for i in range(8))
    assert jn.drawing.draw_cells(DARTS_V2)._repr_png_().startswith(b"\x89PNG")


def test_swapped_arguments_get_a_sentence():
    with pytest.raises(TypeError, match="the space was given first; swap the two"):
        jn.bind(SPACE, jn.darts(10))


def test_the_version_is_that_of_the_package():
    assert jn.__version__ == version("jaxnas")
