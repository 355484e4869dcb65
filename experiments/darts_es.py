"""DARTS-ES on CIFAR-10: DARTS that stops when the curvature rises, in the space of DARTS and in S1 to S4.

Paper: Zela et al. 2020, arXiv:1909.09656, section 4.3; automl/RobustDARTS `src/utils.py`, `EVLocalAvg`.
Command: python -m experiments.darts_es --space s1 --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's: none that has been checked.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`), and what `docs/robust.md` says about the curvature. Second order is
  exact. Networks of S1 to S4 are as large as those of DARTS, and noise that S4 keeps passes nothing on there.
"""

import jaxnas as jn
from experiments.r_darts_spaces import SPACES, network
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = dict.fromkeys(SPACES, Expected())


def recipe(smoke: bool = False, space: str = "darts") -> Reproduction:
    """The official rule: curvature every second epoch, means of 5, a rise by 1.3 over 4, no answer before epoch 10."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = jn.darts(at.epochs * at.steps, every=at.steps, hypergradient=jn.unrolled, alpha_rate=3e-4, decay=3e-4)
    stop = jn.stopping.sharp_rise(window=5, delta=4, factor=1.3, start=10)
    return Reproduction(
        at=at,
        expected=EXPECTED[space],
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        options={"watch": jn.diagnostics.Watch(jn.diagnostics.spectrum, every=2), "stop": stop},
        space=at.space(SPACES[space](channels=16, layers=8)),
        network=at.network(network()),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
