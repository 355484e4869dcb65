"""R-DARTS (drop path) on CIFAR-10, in the space of DARTS and in S1 to S4.

Paper: Zela et al. 2020, arXiv:1909.09656, section 6.2; automl/RobustDARTS `src/search/train_search.py`.
Command: python -m experiments.r_darts_drop_path --space s1 --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's: none that has been checked.
Expected: none that has been checked.
Deviations: those of `r_darts_l2.py`. The official code lets the probability of cutout rise with the rate; here there
  is no cutout in the search.
"""

import jaxnas as jn
from experiments.r_darts_spaces import SPACES, network
from experiments.reproduction import Expected, Reproduction, main, picked
from experiments.scale import SMOKE, full

EXPECTED = dict.fromkeys(SPACES, Expected())
RATES = (0.0, 0.2, 0.4, 0.6)


def recipe(smoke: bool = False, space: str = "darts") -> Reproduction:
    """The paper's grid: DARTS with four rates of dropped edges, and the best by validation."""
    at = SMOKE if smoke else full(images=25_000, epochs=50, batch=64)
    row = lambda rate: jn.r_darts_drop_path(at.epochs * at.steps, rate, every=at.steps, alpha_rate=3e-4, decay=3e-4)
    training = at.training(jn.recipes.cifar())
    return Reproduction(
        at=at,
        expected=EXPECTED[space],
        dataset="cifar10",
        grid={f"rate-{rate:g}": row(rate) for rate in RATES},
        find=picked(training),
        space=at.space(SPACES[space](channels=16, layers=8)),
        network=at.network(network()),
        training=training,
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
