"""What a row of the table is: a record of arrows.

Where in the river: the map. A `Strategy` is plain data; `strategy.replace(slot=...)` is the whole language of
composition.
"""

import dataclasses
import textwrap

from jaxnas.bilevel import Solver
from jaxnas.strategies.decoding import Decode, top_edges
from jaxnas.strategies.mixing import Mixing, weighted_sum
from jaxnas.strategies.penalty import Join, Penalty, no_penalty, plus
from jaxnas.strategies.perturbation import Perturb, unperturbed
from jaxnas.strategies.relaxation import Relaxation, softmax
from jaxnas.strategies.telling import slot_names, told


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """One row of the table: how an architecture is searched."""

    solver: Solver  # loss -> alpha', weights'
    relaxation: Relaxation = dataclasses.field(default_factory=softmax)  # alpha -> gates
    perturb: Perturb = unperturbed  # gates -> gates as the weights' pass sees them
    mixing: Mixing = dataclasses.field(default_factory=weighted_sum)  # gates -> output of an edge
    penalty: Penalty = dataclasses.field(default_factory=no_penalty)  # gates -> extra loss
    join: Join = plus  # loss and extra loss -> what alpha descends
    decode: Decode = dataclasses.field(default_factory=top_edges)  # scores -> genotype

    def __repr__(self) -> str:
        slots = ", ".join(f"{name}={told(getattr(self, name))}" for name in slot_names(self))
        return textwrap.fill(f"Strategy({slots})", 110, subsequent_indent="  ")

    def replace(self, **slots) -> "Strategy":
        """The same strategy with some slots filled differently."""
        return dataclasses.replace(self, **slots)
