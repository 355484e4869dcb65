"""DARTS, exact second order, on CIFAR-10.

Paper: Liu, Simonyan, Yang 2019, arXiv:1806.09055; quark0/darts `cnn/train_search.py`, `cnn/train.py`.
Command: python -m experiments.darts_second_order --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's search took 1.0 GPU-days.
Expected: 2.76 ± 0.09 % test error, 3.3 million parameters, n = 10.
Deviations: those of all (`reproduction.py`). The derivative of the look-ahead is exact, the paper's is a finite
  difference: see `docs/exactness.md`. The official README picks among searches of several seeds, and n are trainings
  of one cell; here each seed has its own cell.
"""

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected(error=2.76, deviation=0.09, runs=10, parameters=3.3, days=1.0)


def recipe(smoke: bool = False) -> Reproduction:
    """The paper's settings."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = jn.darts(at.epochs * at.steps, every=at.steps, hypergradient=jn.unrolled, alpha_rate=3e-4, decay=3e-4)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        space=at.space(jn.spaces.darts(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
