"""Random search on CIFAR-10: the baseline of every search in the space of DARTS.

Paper: Li and Talwalkar 2019, arXiv:1902.07638; Yang, Esperança, Carlucci 2020, arXiv:1912.12522.
Command: python -m experiments.random_search --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet.
Hours: not measured. The papers': none that has been checked.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`). The number of cells, eight, and the length of the trainings by which one
  is picked, 100 epochs on one half of the images with validation on the other, are ours.
"""

from dataclasses import replace

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, drawn, main
from experiments.scale import SMOKE, full

EXPECTED = Expected()


def recipe(smoke: bool = False) -> Reproduction:
    """Random cells with two edges into each node, as searches decode them; the best by a short training."""
    at, cells = (SMOKE, 2) if smoke else (full(images=25_000, epochs=0, batch=96), 8)
    training = jn.recipes.cifar()
    return Reproduction(
        at=at,
        expected=EXPECTED,
        dataset="cifar10",
        find=drawn(cells, jn.decoding.top_edges(2), at.training(replace(training, name="short", epochs=100))),
        space=at.space(jn.spaces.darts(channels=16, layers=8)),
        network=at.network(jn.spaces.darts_network(channels=36, layers=20)),
        training=at.training(training),
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED)
