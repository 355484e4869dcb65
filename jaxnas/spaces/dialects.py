"""Genotypes as other code bases print them, brought to what `genotype` reads; the text is never run.

Where in the river: under `genotype`, beside `notation`. Knows what stands around a text, NNI's JSON
and NASLib's numbers.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\u00a0": " "})
PAPERS = re.compile(r"[\w.]*Genotype\w*\s*\(")  # the call, whatever class a code base has for it
TABULAR = re.compile(r"\|[^|]+~\s*\d+\s*\|[\w|~+\s]*")  # NAS-Bench-201's name of a cell
NASLIB = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")  # numbers of its operations
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # in its order: by source, not by target
NNI = re.compile(r"(\w+)/(op|input)_(\d+)_(\d+)")
LONG = 50_000  # characters; a longer text is left as it is


def tidy(text: str) -> str:
    """A text without what stands around a genotype in logs, files and messages.

    Removed are a byte order mark, curly quotes, quotes around the whole, what a log writes in front, a comma or
    semicolon behind, `Structure(4 nodes with ...)` of AutoDL, and blanks in NAS-Bench-201's names.

    Args:
      text: as it was found.

    >>> tidy("Structure(4 nodes with |none~0| + |none~0|none~1|)")
    '|none~0|+|none~0|none~1|'
    >>> tidy("07/08 05:56:53 AM genotype = Genotype(normal=[])")
    'Genotype(normal=[])'
    """
    if len(text) > LONG:
        return text
    text = text.translate(QUOTES).strip().lstrip("\ufeff").strip().rstrip(";,").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    if text.startswith(("{", "(")):
        return text
    if found := PAPERS.search(text):
        return text[found.start() :]
    if found := TABULAR.search(text):
        return re.sub(r"\s", "", found[0])
    return text


def naslib(text: str) -> list[tuple[str, int, int]] | None:
    """The edges (op, source, target) of NASLib's six numbers for a cell of NAS-Bench-201; None for another text.

    Args:
      text: "(4, 0, 3, 1, 4, 3)".

    Raises:
      ValueError: for a number that no operation has.

    Source: automl/NASLib, `naslib/search_spaces/nasbench201/conversions.py`.

    >>> naslib("(4, 0, 3, 1, 4, 3)")[:3]
    [('avg_pool_3x3', 0, 1), ('skip_connect', 0, 2), ('none', 1, 2)]
    """
    found = re.fullmatch(r"[(\[]\s*(\d+(?:\s*,\s*\d+){5})\s*,?\s*[)\]]", text.strip())
    if not found:
        return None
    numbers = [int(number) for number in found[1].split(",")]
    if max(numbers) >= len(NASLIB):
        told = ", ".join(f"{number} {op}" for number, op in enumerate(NASLIB))
        raise ValueError(f"{text.strip()}: NASLib numbers the operations of NAS-Bench-201 {told}.")
    chosen = dict(zip(NASLIB_EDGES, (NASLIB[number] for number in numbers), strict=True))
    return [(op, source, target) for (source, target), op in sorted(chosen.items(), key=lambda one: one[0][::-1])]


def nni(fields: Mapping[str, Any]) -> dict[str, list[tuple[str, int, int]]] | None:
    """The edges of every cell from the choices that NNI exports, `{"normal/op_2_0": ..., "normal/input_2_0": [0]}`.

    Args:
      fields: the JSON object.

    Raises:
      ValueError: where an operation has no input, or two.

    Source: microsoft/nni, `nni/nas/hub/pytorch/nasnet.py`.
    """
    if not fields or not all(isinstance(name, str) and NNI.fullmatch(name) for name in fields):
        return None
    cells: dict[str, list[tuple[str, int, int]]] = {}
    named = [(found, value) for name, value in fields.items() if (found := NNI.fullmatch(name)) and found[2] == "op"]
    for found, op in sorted(named, key=lambda one: (int(one[0][3]), int(one[0][4]))):
        cell, target, number = found[1], found[3], found[4]
        name = f"{cell}/input_{target}_{number}"
        given = fields.get(name)
        source = given[0] if isinstance(given, list) and len(given) == 1 else given
        if type(source) is not int or not isinstance(op, str):
            raise ValueError(f"NNI's notation: {name} must be one state, and {found[0]} a name; got {given!r}, {op!r}.")
        cells.setdefault(cell, []).append((op, source, int(target)))
    return cells or None


def objects(text: str) -> Any:
    """The JSON object of a text, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError, MemoryError):
        return None
