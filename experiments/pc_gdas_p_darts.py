"""PC-DARTS x GDAS x P-DARTS on CIFAR-10: drawn operations on a quarter of the channels, in three deeper stages.

Paper: none; a composition of arXiv:1907.05737, arXiv:1910.04465 and arXiv:1904.12760, see `docs/composition.md`.
Command: python -m experiments.pc_gdas_p_darts --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. No paper.
Expected: none.
Deviations: those of all (`reproduction.py`). All settings are ours.
"""

import optax

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected()


def recipe(smoke: bool = False) -> Reproduction:
    """GDAS with the edges of PC-DARTS, in the stages of P-DARTS."""
    at = SMOKE if smoke else full(images=25_000, epochs=25, batch=64)
    steps = at.epochs * at.steps
    gates = jn.draws.gumbel_hard(optax.linear_schedule(10.0, 0.1, steps))
    row = jn.gdas(steps, every=at.steps, alpha_rate=3e-4).replace(
        relaxation=jn.relaxation.edge_normalized(gates),
        mixing=jn.mixing.partial_channels(4, jn.mixing.selected_only()),
    )
    spaces = [at.space(jn.spaces.darts(channels=16, layers=layers)) for layers in (5, 11, 17)]
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=jn.stages.progressive([row] * 3, spaces, epochs=at.epochs, keep=(8, 5, 3)),
        space=spaces[0],
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(jn.recipes.cifar()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
