"""P-DARTS on CIFAR-10.

Paper: Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts `train_search.py`.
Command: python -m experiments.p_darts --data-dir DIR --seed 0
Hardware: made for one accelerator with 16 GB; not run at this size yet.
Hours: not measured. The paper's search took 0.3 GPU-days.
Expected: 2.50 % test error, s.d.: none, 3.4 million parameters, n: none.
Deviations: those of all (`reproduction.py`). The rates of dropout are those of the official README. Of the genotypes
  with ever fewer skips that the official code prints, the one with two is taken, as its authors advise.
"""

from dataclasses import replace

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected(error=2.50, parameters=3.4, days=0.3)


def recipe(smoke: bool = False) -> Reproduction:
    """The official settings: three stages, ever deeper, with ever fewer operations."""
    at = SMOKE if smoke else full(images=25_000, epochs=25, batch=96)
    spaces = [at.space(jn.spaces.darts(channels=16, layers=layers)) for layers in (5, 11, 17)]
    stages = jn.stages.p_darts_stages(
        spaces, at.steps, at.epochs, keep=(8, 5, 3), skip_dropout=(0.1, 0.4, 0.7), alpha_rate=6e-4
    )
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=stages,
        space=spaces[0],
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(replace(jn.recipes.cifar(), batch=128, drop_path=0.3)),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
