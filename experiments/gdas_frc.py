"""GDAS with a fixed reduction cell (FRC) on CIFAR-10.

Paper: Dong and Yang 2019, arXiv:1910.04465; D-X-Y/AutoDL-Projects, whose author calls its search a reimplementation.
Command: python -m experiments.gdas_frc --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The paper's: none that has been checked.
Expected: none that has been checked against the paper.
Deviations: those of all (`reproduction.py`). The networks of this space have no second head, so the training, which is
  that of DARTS, has none; the paper's own was not looked up. FRC: the normal cell is searched only.
"""

from dataclasses import replace

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected()


def recipe(smoke: bool = False) -> Reproduction:
    """The settings of the official search."""
    at = SMOKE if smoke else full(images=25_000, epochs=250, batch=256)
    row = jn.gdas(at.epochs * at.steps, every=at.steps, alpha_rate=3e-4, convention=jn.mixing.selected_only)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        stages=(jn.Stage(row, at.epochs),),
        space=at.space(jn.spaces.nasnet_frc(channels=16, cells_per_stage=2)),
        network=at.network(jn.spaces.nasnet_frc_network(channels=36, cells_per_stage=6)),
        training=at.training(replace(jn.recipes.cifar(), auxiliary=0.0)),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
