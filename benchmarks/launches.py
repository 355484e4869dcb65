"""Counts what one run of a compiled program does: kernels, loops, collectives, cycles.

A launch is an instruction that is a kernel, a library call or a copy, times the trip counts of the loops around it:

    launches(computation) = sum over its instructions of   1                               a kernel
                                                           n launches(body)                a loop of n trips
                                                           mean over b of launches(b)      a conditional of branches b

A loop whose trip count the compiler does not know counts once, its condition too, and is reported. The condition of a
loop whose trip count it knows is not counted: XLA's runtime for GPUs runs such a loop on the host and does not look at
it. One call of a library counts once, even where the library launches several kernels.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.hlo import (
    Instruction,
    Module,
    branches,
    called,
    custom_target,
    cycles,
    inside,
    layout,
    size,
    trips,
)

FREE = {
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "add-dependency"),
    *("opt-barrier", "partition-id", "replica-id", "domain", "async-update"),
}
COLLECTIVES = (
    *("all-reduce", "reduce-scatter", "all-gather", "all-to-all", "ragged-all-to-all"),
    *("collective-permute", "collective-broadcast"),
)
MOVES = {"parameter", "bitcast", "copy", "transpose", "reshape", "tuple", "get-tuple-element"}
FUSED = {  # an opcode inside a fusion -> the kind of the fusion; the first that fits
    "dot": "product",
    "convolution": "convolution",
    "scatter": "scatter",
    "reduce": "reduction",
    "reduce-window": "window",
    "select-and-scatter": "window",
    "dynamic-update-slice": "update in place",
}


class Sent(NamedTuple):
    """Collectives of one kind."""

    number: float = 0
    bytes: float = 0  # that one device puts in; of an all-gather, that it gets


class Launches(NamedTuple):
    """What one run of a program does."""

    kinds: dict[str, float]  # launches by kind
    transposes: float  # launches that only change the layout of at least `large` bytes
    copies: float  # launches that only copy at least `large` bytes
    loops: dict[str, int]  # loops in the text: "known" and "unknown" trip count
    conditionals: int  # in the text
    collectives: dict[str, Sent]
    cycles: float | None  # the sum of the compiler's estimates; None where it gives none

    @property
    def total(self) -> float:
        """All launches."""
        return sum(self.kinds.values())


def count(module: Module, large: float) -> Launches:
    """What one run of a program does.

    Args:
      module: from `hlo.read`.
      large: bytes from which a copy or a transpose is one of a whole activation.
    """
    tally = _Tally(*(defaultdict(float) for _ in _Tally._fields))
    _walk(module, module.entry, 1.0, large, tally)
    sent = {kind: Sent(tally.number[kind], tally.bytes[kind]) for kind in sorted(tally.number)}
    return Launches(
        kinds=dict(sorted(tally.kinds.items(), key=lambda item: -item[1])),
        transposes=tally.moved["transpose"],
        copies=tally.moved["copy"],
        loops={name: int(tally.found[name]) for name in ("known", "unknown")},
        conditionals=int(tally.found["conditional"]),
        collectives=sent,
        cycles=tally.cycles.get("all"),
    )


class _Tally(NamedTuple):
    kinds: defaultdict[str, float]
    moved: defaultdict[str, float]
    found: defaultdict[str, float]
    number: defaultdict[str, float]
    bytes: defaultdict[str, float]
    cycles: defaultdict[str, float]


def _walk(module: Module, name: str, times: float, large: float, tally: _Tally) -> None:
    for found in module.computations[name].values():
        again = lambda other, part=1.0: _walk(module, other, times * part, large, tally)
        if found.opcode in FREE or found.opcode.endswith("-done"):
            continue
        if found.opcode == "while":
            number = trips(found)
            tally.found["unknown" if number is None else "known"] += 1
            again(called(found, "body"), 1 if number is None else number)
            if number is None:
                again(called(found, "condition"))
        elif found.opcode == "conditional":
            tally.found["conditional"] += 1
            for branch in branches(found):
                again(branch, 1 / len(branches(found)))
        elif found.opcode == "call":
            again(called(found, "to_apply"))
        elif found.opcode == "async-start":
            again(called(found, "calls"))
        else:
            _launch(module, module.computations[name], found, times, large, tally)


def _launch(module: Module, computation, found: Instruction, times: float, large: float, tally: _Tally) -> None:
    what = kind(module, computation, found)
    tally.kinds[what] += times
    if what in ("transpose", "copy") and size(found.type) >= large:
        tally.moved[what] += times
    if what in COLLECTIVES:
        tally.number[what] += times
        tally.bytes[what] += times * _sent(computation, found, what)
    if (estimate := cycles(found)) is not None:
        tally.cycles["all"] += times * estimate


def kind(module: Module, computation: Mapping[str, Instruction], found: Instruction) -> str:
    """The kind of a launch, in a word or by the name of the library's call.

    A fusion that holds nothing but copies, transposes and bitcasts is a "transpose" where one of them changes the order
    of elements in memory, else a "copy".
    """
    opcode = found.opcode.removesuffix("-start")
    if opcode == "custom-call":
        return custom_target(found)
    if opcode in ("copy", "transpose"):
        return "transpose" if _reorders(computation, found) else "copy"
    if opcode != "fusion":
        return opcode
    parts = list(inside(module, called(found, "calls")))
    opcodes = {part.opcode for part, _ in parts}
    if opcodes <= MOVES:
        return "transpose" if any(_reorders(around, part) for part, around in parts) else "copy"
    return next((word for opcode, word in FUSED.items() if opcode in opcodes), "elementwise")


def _reorders(computation: Mapping[str, Instruction], found: Instruction) -> bool:
    if found.opcode == "transpose":
        return True
    source = computation.get(found.operands[0]) if found.operands else None
    return found.opcode == "copy" and source is not None and layout(source.type) != layout(found.type)


def _sent(computation: Mapping[str, Instruction], found: Instruction, what: str) -> int:
    given = sum(size(computation[name].type) for name in found.operands if name in computation)
    if what != "all-gather":
        return given
    return size(found.type) - (given if found.opcode.endswith("-start") else 0)
