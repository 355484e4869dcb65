"""DARTS, first order, on CIFAR-10.

Paper: Liu, Simonyan, Yang 2019, arXiv:1806.09055; quark0/darts `cnn/train_search.py`, `cnn/train.py`.
Command: python -m experiments.darts_first_order --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's search took 0.4 GPU-days.
Expected: 3.00 ± 0.14 % test error, 3.3 million parameters, n: none.
Deviations: those of all (`reproduction.py`). The official README searches with several seeds and picks by a short
  training; here each seed counts.
"""

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected(error=3.00, deviation=0.14, parameters=3.3, days=0.4)


def recipe(smoke: bool = False) -> Reproduction:
    """The paper's settings."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = jn.darts(at.epochs * at.steps, every=at.steps, hypergradient=jn.first_order(), alpha_rate=3e-4, decay=3e-4)
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
