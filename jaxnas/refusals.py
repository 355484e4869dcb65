"""What a search refuses before anything is written.

Where in the river: at its spring. Knows stages, a space and a split; computes nothing that lasts.
"""

from collections.abc import Sequence

import jax

from jaxnas.data import Split
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.strategy import Strategy


def check(space: Space, data: Split, batch: int, stages: Sequence[Stage]) -> None:
    """Raises ValueError where stages, space and images do not fit one another; says what was given and what to do."""
    first = stages[0].reshape(space, None) if stages else space  # says what does not fit before anything is written
    for stage in stages:
        _check_fits(stage.strategy, first)
    for name, half in (("train", data.train), ("valid", data.valid)):
        shape = tuple(half.image.shape[1:])
        if shape != space.image:
            raise ValueError(
                f"{name} images are {shape}, the space is built for {space.image}: build it with image={shape}."
            )
        if int(half.label.min()) < 0 or int(half.label.max()) >= space.classes:
            worst = int(half.label.max() if half.label.min() >= 0 else half.label.min())
            raise ValueError(f"{name} label {worst} is outside the {space.classes} classes of the space.")
    if batch < 1 or not stages or any(stage.epochs < 1 for stage in stages):
        raise ValueError(f"batch={batch}, epochs={[stage.epochs for stage in stages]}: all must be at least 1.")


def _check_fits(strategy: Strategy, space: Space) -> None:
    """Partial channels that do not divide, and decodings that look for other cells, say so here."""
    for layer in space.skeleton:
        if layer.cell in space.cells:
            strategy.mixing.width(layer.channels)
    alpha = strategy.relaxation.init(jax.random.key(0), space)
    strategy.decode(jax.device_get(strategy.relaxation.mean(alpha, space)), space)
