"""SNAS with measured latency, on PC-DARTS, on CIFAR-10.

Paper: none; a composition of arXiv:1812.09926, arXiv:1812.00332 and arXiv:1907.05737, see `docs/composition.md`.
Command: python -m experiments.snas_latency --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet. The penalty is what operations take on the device that
  searches, so that answers differ between devices.
Hours: not measured. No paper.
Expected: none.
Deviations: those of all (`reproduction.py`). All settings are ours; none has been tuned.
"""

from collections.abc import Callable, Mapping

import numpy as np
import optax

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full
from jaxnas.evaluation.latency import latencies
from jaxnas.spaces.space import Space

EXPECTED = Expected()


def recipe(smoke: bool = False, costs: Callable[[Space], Mapping[str, np.ndarray]] = latencies) -> Reproduction:
    """SNAS on a quarter of the channels, which pays for each second of an operation."""
    at = SMOKE if smoke else full(images=50_000, epochs=50, batch=64)
    steps, space = at.epochs * at.steps, at.space(jn.spaces.darts(channels=16, layers=8))
    gates = jn.draws.concrete(optax.linear_schedule(1.0, 0.03, steps))
    row = jn.snas(steps, every=at.steps, alpha_rate=3e-4).replace(
        relaxation=jn.relaxation.edge_normalized(gates),
        mixing=jn.mixing.partial_channels(4),
        penalty=jn.penalty.expected_cost(costs(space), weight=optax.constant_schedule(0.1)),
    )
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        valid_fraction=0.0,
        stages=(jn.Stage(row, at.epochs),),
        space=space,
        network=at.network(jn.spaces.snas_network(channels=36, layers=20)),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
