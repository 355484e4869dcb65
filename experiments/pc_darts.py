"""PC-DARTS on CIFAR-10.

Paper: Xu et al. 2020, arXiv:1907.05737; yuhuixu1993/PC-DARTS `train_search.py`, `model_search.py`.
Command: python -m experiments.pc_darts --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's search took 0.1 GPU-days.
Expected: 2.57 ± 0.07 % test error, 3.6 million parameters, n = 3.
Deviations: those of all (`reproduction.py`). The published number is the best test accuracy over the epochs of a
  training; here it is that of the last. Like the official code, and unlike the paper, no channels are sampled.
"""

from dataclasses import replace

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected(error=2.57, deviation=0.07, runs=3, parameters=3.6, days=0.1)


def recipe(smoke: bool = False) -> Reproduction:
    """The paper's settings: alpha rests for 15 of 50 epochs."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=256)
    rest = at.epochs * 15 // 50 * at.steps
    row = jn.pc_darts(at.epochs * at.steps, every=at.steps, alpha_rate=6e-4, rest=rest)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        space=at.space(jn.spaces.darts(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(replace(jn.recipes.cifar(), drop_path=0.3)),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
