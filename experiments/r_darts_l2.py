"""R-DARTS (L2) on CIFAR-10, in the space of DARTS and in S1 to S4.

Paper: Zela et al. 2020, arXiv:1909.09656, section 6.2; automl/RobustDARTS `src/search/train_search.py`.
Command: python -m experiments.r_darts_l2 --space s1 --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's searches took 1.6 GPU-days.
Expected: darts: 2.95 ± 0.21 % test error, parameters: none, n: none; a survey's row "R-DARTS", and that it is this
  variant is not verified. S1 to S4: none; `docs/robust.md` has the skips and validation errors of the published logs
  of S1.
Deviations: those of all (`reproduction.py`). Second order is exact. Which of the four searches counts is said by
  training each answer on one half of the images, by the recipe of DARTS, and validating it on the other. Networks of
  S1 to S4 are as large as those of DARTS, and noise that S4 keeps passes nothing on there.
"""

import jaxnas as jn
from experiments.r_darts_spaces import SPACES, network
from experiments.reproduction import Expected, Reproduction, main, picked
from experiments.scale import SMOKE, full

EXPECTED = {
    space: Expected(error=2.95, deviation=0.21, days=1.6) if space == "darts" else Expected() for space in SPACES
}
DECAYS = (3e-4, 9e-4, 27e-4, 81e-4)


def recipe(smoke: bool = False, space: str = "darts") -> Reproduction:
    """The paper's grid: DARTS with four decays of the weights, and the best by validation."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = lambda decay: jn.r_darts_l2(at.epochs * at.steps, decay, every=at.steps, alpha_rate=3e-4)
    training = at.training(jn.recipes.cifar())
    return Reproduction(
        at=at,
        expected=EXPECTED[space],
        dataset="cifar10",
        grid={f"decay-{decay:g}": row(decay) for decay in DECAYS},
        find=picked(training),
        space=at.space(SPACES[space](channels=16, layers=8)),
        network=at.network(network()),
        training=training,
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
