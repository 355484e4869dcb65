"""Genotypes as other code bases print them: what is read, what is named and refused, and that no text is run."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnas.planning import genotype_of
from jaxnas.spaces import dialects
from jaxnas.spaces.genotype import Genotype, from_nas_bench_201, read, to_darts, to_json, to_nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.published import DARTS_V2, GDAS_F1, PC_DARTS

TEXT = to_darts(DARTS_V2)
NODES = re.sub(r"(\('\w+', \d\), \('\w+', \d\))", r"[\1]", TEXT)  # a list for each node, as pt.darts writes it
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"

SAME = {  # spellings of DARTS_V2
    "numbers of NumPy": re.sub(r", (\d)\)", r", np.int64(\1))", TEXT),
    "unsigned ones, by the long name": re.sub(r", (\d)\)", r", numpy.uint8(\1))", TEXT),
    "texts of NumPy": re.sub(r"\(('\w+')", r"(np.str_(\1)", TEXT),
    "tensors": re.sub(r", (\d)\)", r", tensor(\1))", TEXT),
    "tensors on a device": re.sub(r", (\d)\)", r", torch.tensor(\1, device='cuda:0'))", TEXT),
    "a list of a range": TEXT.replace("range(2, 6)", "list(range(2, 6))"),
    "a tuple of a range": TEXT.replace("range(2, 6)", "tuple(range(2, 6))"),
    "a list for each node": NODES,
    "a tuple for each node": NODES.replace("[(", "((").replace(")]", "))"),
    "six fields": TEXT[:-1] + ", connectN=None, connects=None)",
    "another class": "DARTS" + TEXT,
    "a module in front": "genotypes." + TEXT,
    "two modules in front": "a.b." + TEXT,
    "an assignment": "DARTS = " + TEXT,
    "a line of a log": "07/08 05:56:53 AM genotype = " + TEXT,
    "a line of another log": "[2024-01-02 03:04:05,678][search][INFO] - " + TEXT,
    "a comma behind": TEXT + ",",
    "a semicolon behind": TEXT + ";",
    "a byte order mark": "\ufeff" + TEXT,
    "curly quotes": re.sub(r"'(\w+)'", "‘\\1’", TEXT),
    "double quotes": TEXT.replace("'", '"'),
    "quotes around it": f'"{TEXT}"',
    "fixed blanks": TEXT.replace(" ", "\u00a0"),
    "lines of Windows": TEXT.replace("), ", "),\r\n"),
    "comments": "# best\n" + TEXT + "  # 97.2",
    "no names of fields": re.sub(r"\b(normal|reduce)(_concat)?=", "", TEXT),
    "a dictionary": "{" + re.sub(r"\b((?:normal|reduce)(?:_concat)?)=", r"'\1': ", TEXT[len("Genotype(") : -1]) + "}",
    "JSON in quotes": f"'{to_json(DARTS_V2)}'",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_a_spelling_is_read_as_the_genotype_that_it_is(text):
    assert read(text) == DARTS_V2


def test_a_cell_alone_is_one_whose_reduction_is_fixed():
    text = to_darts(GDAS_F1)
    alone = text[: text.index(", reduce=")] + ")"
    assert read(alone).edges("normal") == GDAS_F1.edges("normal") and read(alone).names == ("normal",)


NAMES = {  # spellings of one cell of NAS-Bench-201
    "blanks": CELL.replace("|", " | ").replace("+", " + "),
    "a structure": f"Structure(4 nodes with {CELL})",
    "a comma behind": CELL + ",",
    "quotes": f"'{CELL}'",
    "a line of a log": f"arch: {CELL}",
    "numbers": "(2, 1, 0, 3, 4, 2)",
    "a list of them": "[2, 1, 0, 3, 4, 2]",
}


@pytest.mark.parametrize("text", NAMES.values(), ids=NAMES)
def test_a_spelling_of_a_tabulated_cell(text):
    assert read(text) == from_nas_bench_201(CELL)


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_six_numbers_go_by_the_source_of_their_edges(numbers):
    found = to_nas_bench_201(read(str(tuple(numbers))))
    ops = dict(
        zip(((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)), (dialects.NASLIB[n] for n in numbers), strict=True)
    )
    parts = ["".join(f"|{ops[source, target]}~{source}" for source in range(target)) + "|" for target in (1, 2, 3)]
    assert found == "+".join(parts)


def test_their_names_are_those_of_the_space():
    assert set(dialects.NASLIB) == set(nas_bench_201(4, 1).op_names)


def exported(genotype: Genotype, single=False) -> dict:
    """As NNI writes it: two choices for each node."""
    told = {}
    for cell in genotype.names:
        for number, (op, source, target) in enumerate(genotype.edges(cell)):
            told[f"{cell}/op_{target}_{number % 2}"] = op
            told[f"{cell}/input_{target}_{number % 2}"] = source if single else [source]
    return told


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("known", [DARTS_V2, PC_DARTS], ids=("DARTS_V2", "PC_DARTS"))
def test_choices_that_nni_exports(known, single):
    assert read(json.dumps(exported(known, single))) == known


REFUSED = {
    "an unknown call": (TEXT.replace("range(2, 6)", "states(2, 6)"), r"'states\(2, 6\)' is no list, name or number"),
    "a broken line": (TEXT[:60], "breaks off, or is none, near line 1"),
    "how cells are connected": (TEXT[:-1] + ", connects=[1, 2])", "with connects: how cells are connected is not read"),
    "a field twice": (TEXT[:-1] + ", normal=[])", "twice|repeated|breaks off"),
    "too few numbers": ("(4, 0, 3)", "expected one call"),
    "a number too large": ("(4, 0, 3, 1, 4, 5)", "numbers the operations of NAS-Bench-201 0 skip_connect, 1 none"),
    "an index": ("235", "jaxnas lookup 235 --table FILE"),
    "choices without an input": ('{"normal/op_2_0": "sep_conv_3x3"}', "normal/input_2_0 must be one state"),
    "an input that is none": ('{"normal/op_2_0": "a", "normal/input_2_0": [0, 1]}', "must be one state"),
    "a cell out of order": (CELL.replace("|none~0|nor_conv_1x1~1|", "|nor_conv_1x1~1|none~0|"), "every earlier state"),
    "channels": ("64:64:64:64:64", "not the papers' notation"),
    "half of a JSON": (to_json(DARTS_V2)[:80], "not the JSON of a genotype"),
    "a range without end": (TEXT.replace("range(2, 6)", "range()"), "no list, name or number"),
    "a call inside": (TEXT.replace("range(2, 6)", "list(open('harm', 'w'))"), "no list, name or number"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_is_named_without_words_of_the_parser(text, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told) as error:
        read(text)
    assert not re.search(r"<ast|object at 0x|Perhaps you forgot|leading zeros|invalid syntax", str(error.value))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["DARTS_V2", "darts_v2", "Darts-V2", "dartsv2"])
def test_a_published_name_in_other_letters(name):
    assert genotype_of(name) == DARTS_V2


def test_a_range_from_the_first_state_joins_the_inputs_too():
    assert read(TEXT.replace("normal_concat=range(2, 6)", "normal_concat=range(6)")).concat("normal") == (*range(6),)


def test_numbers_of_numpy_themselves():
    """As NumPy 2 prints them."""
    rows = [(np.str_(op), np.int64(source)) for op, source, _ in DARTS_V2.edges("normal")]
    assert read(TEXT.replace(str([(op, source) for op, source, _ in DARTS_V2.edges("normal")]), repr(rows))) == DARTS_V2
