"""Random search with shared weights on CIFAR-10.

Paper: Li and Talwalkar 2019, arXiv:1902.07638; liamcli/randomNAS_release `searchers/random_weight_share.py`.
Command: python -m experiments.random_sharing --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's: none that has been checked.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`), of `jn.random_sharing` and of `jn.pick_shared`. The supernet is that of
  first order DARTS, and so are the length of the search and the training.
"""

from functools import partial

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected()


def recipe(smoke: bool = False) -> Reproduction:
    """The budget of DARTS, then 1000 random cells on ten batches each, and the best ten on the whole half."""
    at, samples = (SMOKE, 4) if smoke else (full(images=25_000, epochs=50, batch=64), 1000)
    row = jn.random_sharing(at.epochs * at.steps, every=at.steps, kept=2)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        options={"finish": partial(jn.pick_shared, samples=samples, batches=10, finalists=10)},
        space=at.space(jn.spaces.darts(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
