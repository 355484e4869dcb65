"""DARTS (exact second order) and PC-DARTS, searched and trained on Fashion-MNIST.

Paper: Liu, Simonyan, Yang 2019, arXiv:1806.09055; Xu et al. 2020, arXiv:1907.05737.
Command: python -m experiments.fashion_mnist --row pc-darts --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The papers': none.
Expected: none.
Deviations: those of all (`reproduction.py`). The settings are those of `darts_second_order.py` and `pc_darts.py`,
  which were made for CIFAR-10. Images of 28 pixels are too small for the second head, and the cutout shrinks to 14.
"""

from dataclasses import replace

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = {"darts": Expected(), "pc-darts": Expected()}


def recipe(smoke: bool = False, row: str = "darts") -> Reproduction:
    """The settings for CIFAR-10."""
    batch = {"darts": 64, "pc-darts": 256}[row]
    at = SMOKE if smoke else full(images=30_000, epochs=50, batch=batch)
    steps, rest = at.epochs * at.steps, at.epochs * 15 // 50 * at.steps
    rows = {
        "darts": jn.darts(steps, every=at.steps, hypergradient=jn.unrolled, alpha_rate=3e-4, decay=3e-4),
        "pc-darts": jn.pc_darts(steps, every=at.steps, alpha_rate=6e-4, rest=rest),
    }
    trainings = {
        "darts": replace(jn.recipes.cifar(), auxiliary=0.0),
        "pc-darts": replace(jn.recipes.cifar(), auxiliary=0.0, drop_path=0.3),
    }
    return Reproduction(
        at=at,
        expected=EXPECTED[row],
        dataset="fashion_mnist",
        stages=(jn.Stage(rows[row], at.epochs),),
        space=at.space(jn.spaces.darts(channels=16, layers=8, image=(28, 28, 1))),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20, image=(28, 28, 1))),
        training=at.training(trainings[row]),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
