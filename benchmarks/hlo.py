"""Reads the text of a compiled program: its computations, instructions, types and loops.

Knows the grammar of XLA's text and no device. `launches.py` counts what it finds.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from typing import NamedTuple

HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
NAMED = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
OPCODE = re.compile(r" ([\w\-]+)\(")
ARRAY = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,<=]*)\]")
LAYOUT = re.compile(r"\{([\d,]*)")
BITS = re.compile(r"\d+")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
TARGET = re.compile(r'custom_call_target="([^"]*)"')
BRACKETS = re.compile(r"[()]")


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    type: str  # "f32[8,128]{1,0}", or several in parentheses
    opcode: str
    operands: tuple[str, ...]  # names of instructions of the same computation
    attributes: str  # the rest of the line


class Module(NamedTuple):
    """A compiled program."""

    computations: Mapping[str, Mapping[str, Instruction]]  # by name, and in each the instructions by name
    entry: str


def read(text: str) -> Module:
    """The computations of a program.

    Args:
      text: what `compiled.as_text()` returns.

    Raises:
      ValueError: the text has no entry.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    current, entry = None, ""
    for line in text.splitlines():
        if not line.startswith(" "):
            head = HEAD.match(line)
            current = computations.setdefault(head[2], {}) if head else None
            entry = head[2] if head and head[1] else entry
        elif current is not None and (found := instruction(line)):
            current[found.name] = found
    if not entry:
        raise ValueError("the text is no compiled program: no computation is marked ENTRY.")
    return Module(computations, entry)


def instruction(line: str) -> Instruction | None:
    """The instruction on a line, or None where there is none."""
    named = NAMED.match(line)
    if not named:
        return None
    start = named.end()
    end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opcode = OPCODE.match(line, end)
    if not opcode:
        return None
    close = _closing(line, opcode.end() - 1)
    operands = re.findall(r"%([\w.\-]+)", line[opcode.end() : close])
    return Instruction(named[1], line[start:end], opcode[1], tuple(operands), line[close:])


def _closing(line: str, start: int) -> int:
    """The place after the bracket that closes the one at `start`."""
    depth = 0
    for found in BRACKETS.finditer(line, start):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.end()
    return len(line)


def called(found: Instruction, attribute: str) -> str:
    """The computation that an instruction names by an attribute, such as "body" or "calls"; "" where it has none."""
    name = re.search(rf"\b{attribute}=%?([\w.\-]+)", found.attributes)
    return name[1] if name else ""


def branches(conditional: Instruction) -> tuple[str, ...]:
    """The computations of which a conditional runs one."""
    listed = re.search(r"branch_computations=\{([^}]*)\}", conditional.attributes)
    if listed:
        return tuple(re.findall(r"%?([\w.\-]+)", listed[1]))
    return called(conditional, "true_computation"), called(conditional, "false_computation")


def trips(loop: Instruction) -> int | None:
    """How often a loop runs, where the compiler knows."""
    found = TRIPS.search(loop.attributes)
    return int(found[1]) if found else None


def cycles(found: Instruction) -> int | None:
    """The compiler's estimate for one run of an instruction; TPUs only."""
    estimate = CYCLES.search(found.attributes)
    return int(estimate[1]) if estimate else None


def custom_target(found: Instruction) -> str:
    """What a custom call calls."""
    target = TARGET.search(found.attributes)
    return target[1] if target else "custom-call"


@cache
def size(type: str) -> int:
    """Bytes of a type, without padding; those of a tuple together."""
    return sum(_bits(kind) * prod(_sides(sides)) for kind, sides in ARRAY.findall(type)) // 8


def _bits(kind: str) -> int:
    if kind in ("pred", "token", "opaque"):
        return 8 if kind == "pred" else 0
    return int(BITS.search(kind)[0])  # type: ignore[index]  # every other kind ends in its bits


def _sides(text: str) -> list[int]:
    return [int(side.lstrip("<=")) for side in text.split(",") if side]


def layout(type: str) -> str:
    """The order of an array's dimensions in memory, the fastest first: "1,0"; "" where the text has none."""
    found = LAYOUT.search(type)
    return found[1] if found else ""


def inside(module: Module, name: str) -> Iterator[tuple[Instruction, Mapping[str, Instruction]]]:
    """All instructions of a fused computation, and of those fused into it, each with its computation."""
    computation = module.computations.get(name, {})
    for found in computation.values():
        yield found, computation
        if found.opcode == "fusion":
            yield from inside(module, called(found, "calls"))
