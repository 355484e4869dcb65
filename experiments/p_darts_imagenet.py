"""P-DARTS, searched on CIFAR-10 and trained on ImageNet.

Paper: Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts `train_search.py`, `train_imagenet.py`.
Command: python -m experiments.p_darts_imagenet --data-dir DIR --seed 0
Hardware: made for one accelerator with 16 GB; not run at this size yet.
Hours: not measured. The paper's search took 0.3 GPU-days.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`), of `p_darts.py` and of `jn.recipes.imagenet_linear`. Images of ImageNet
  come from `imagenet_224.npz` in --data-dir (image, label, test_image, test_label; 224x224 pixels) and must fit the
  device's memory, which all 1.2 million of them do not.
"""

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full

EXPECTED = Expected(days=0.3)


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
        retrained_on="imagenet_224.npz",
        stages=stages,
        space=spaces[0],
        network=at.network(jn.spaces.darts_imagenet_network(channels=48, layers=14)),
        training=at.training(jn.recipes.imagenet_linear()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
