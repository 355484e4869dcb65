"""Early stopping of R-DARTS on GDAS, on CIFAR-10.

Paper: none; a composition of arXiv:1909.09656 and arXiv:1910.04465, see `docs/composition.md`.
Command: python -m experiments.gdas_es --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. No paper.
Expected: none.
Deviations: those of all (`reproduction.py`). All settings are ours.
"""

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected()


def recipe(smoke: bool = False) -> Reproduction:
    """GDAS in the space of DARTS, until the curvature of the validation loss in alpha rises."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = jn.gdas(at.epochs * at.steps, every=at.steps, alpha_rate=3e-4)
    stop = jn.stopping.sharp_rise(window=5, delta=4, factor=1.3, start=10)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        options={"watch": jn.diagnostics.Watch(jn.diagnostics.spectrum, every=2), "stop": stop},
        space=at.space(jn.spaces.darts(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
