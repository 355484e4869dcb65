"""PC-DARTS, searched and trained on ImageNet.

Paper: Xu et al. 2020, arXiv:1907.05737, section 4.3; yuhuixu1993/PC-DARTS `train_search_imagenet.py`.
Command: python -m experiments.pc_darts_imagenet --data-dir DIR --seed 0
Hardware: the paper's search ran on 8 V100; not run at this size yet.
Hours: not measured. The paper's search took 11.5 hours, 3.8 GPU-days.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`), of `jn.pc_darts_imagenet` and of `jn.recipes.imagenet_linear`; the stem
  is built. The images of the search are drawn, not balanced by class. They come from `imagenet_224.npz` in --data-dir
  (image, label, test_image, test_label; 224x224 pixels) and must fit the memory, which all 1.2 million of them do not.
"""

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, main
from experiments.scale import SMOKE, full
from jaxnas.spaces.space import Space

EXPECTED = Expected(days=3.8)


def searched(channels: int, layers: int) -> Space:
    """The space of DARTS behind the stem of its networks for ImageNet."""
    cells, stem = jn.spaces.darts(channels, layers), jn.spaces.darts_imagenet_network(channels, layers)
    return stem.replace(ops=cells.ops, edges=cells.edges, preprocess=cells.preprocess, auxiliary=None)


def recipe(smoke: bool = False) -> Reproduction:
    """The official settings: a tenth of the images for the weights, a fortieth for alpha, which rests for 35 epochs."""
    at = SMOKE if smoke else full(images=128_117, epochs=50, batch=1024)
    rest = at.epochs * 35 // 50 * at.steps
    row = jn.pc_darts_imagenet(at.epochs * at.steps, every=at.steps, alpha_rate=6e-3, rest=rest)
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="imagenet_224.npz",
        fraction=0.125,
        valid_fraction=0.2,
        stages=(jn.Stage(row, at.epochs),),
        space=at.space(searched(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_imagenet_network(channels=48, layers=14)),
        training=at.training(jn.recipes.imagenet_linear()),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
