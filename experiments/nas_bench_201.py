"""Every row of the table in the space of NAS-Bench-201, on CIFAR-10.

Paper: Dong and Yang 2020, arXiv:2001.00326; the papers of the rows, see `docs/methods.md`.
Command: python -m experiments.nas_bench_201 --row gdas --table nas_bench_201.npz --data-dir DIR --seed 0
Hardware: made for one accelerator; not run at this size yet. The table is read anywhere.
Hours: not measured. The paper's: none that has been checked.
Expected: none that has been checked.
Deviations: those of all (`reproduction.py`). GDAS searches for 250 epochs, as its official code; for the others 50
  epochs in batches of 64 are ours, and so are the stages of P-DARTS. All genotypes keep all edges, `none` included.
  With --table the answer is looked up (`docs/nas_bench_201.md` says how to make the file), else it is trained.
"""

from functools import partial
from pathlib import Path

import jaxnas as jn
from experiments.reproduction import Expected, Reproduction, looked_up, main, retrained
from experiments.scale import SMOKE, Scale, full
from jaxnas.strategies.strategy import Strategy

ROWS = {  # (steps, every=steps in an epoch) -> a row
    "darts-first-order": partial(jn.darts, hypergradient=jn.first_order()),
    "darts-second-order": partial(jn.darts, hypergradient=jn.unrolled),
    "darts-finite-difference": partial(jn.darts, hypergradient=jn.finite_difference),
    "pc-darts": jn.pc_darts,
    "gdas": partial(jn.gdas, convention=jn.mixing.broadcast),
    "snas": jn.snas,
    "fair-darts": jn.fair_darts,
    "gaea": jn.gaea,
    "r-darts-l2": partial(jn.r_darts_l2, decay=81e-4),
    "r-darts-drop-path": partial(jn.r_darts_drop_path, rate=0.2),
    "random-sharing": partial(jn.random_sharing, kept=None),
    "smooth-darts": jn.smooth_darts,
    "nasp": partial(jn.nasp, kept=None),
    "i-darts": jn.i_darts,
}
STAGED = ("p-darts", "dr-nas")
EXPECTED = dict.fromkeys((*ROWS, *STAGED), Expected())


def stages(row: str, at: Scale) -> tuple[jn.Stage, ...]:
    """The stages of a row; its answer keeps all edges."""
    space = lambda cells: at.space(jn.spaces.nas_bench_201(channels=16, cells_per_stage=cells))
    if row == "p-darts":
        found = jn.stages.p_darts_stages([space(n) for n in (5, 11, 17)], at.steps, at.epochs, keep=(5, 4, 3))
    elif row == "dr-nas":
        found = jn.stages.dr_nas_stages([space(5)] * 2, at.steps, at.epochs, keep=(5, 3), divisors=(4, 2))
    else:
        found = (jn.Stage(ROWS[row](at.epochs * at.steps, every=at.steps), at.epochs),)
    return tuple(stage._replace(strategy=keeping_all(stage.strategy)) for stage in found)


def keeping_all(row: Strategy) -> Strategy:
    """The row whose genotypes have one operation on each edge."""
    return row.replace(decode=jn.decoding.argmax_edges())


def recipe(smoke: bool = False, row: str = "darts-first-order", table: Path | None = None) -> Reproduction:
    """A row with its own settings, in this space."""
    joint = row == "snas"  # one loss on all images
    epochs, images = 250 if row == "gdas" else 50, 50_000 if joint else 25_000
    at = SMOKE if smoke else full(images=images, epochs=epochs, batch=64)
    finish = partial(jn.pick_shared, samples=4 if smoke else 1000)
    return Reproduction(
        at=at,
        expected=EXPECTED[row],
        dataset="cifar10",
        valid_fraction=0.0 if joint else 0.5,
        stages=stages(row, at),
        options={"finish": finish} if row == "random-sharing" else {},
        space=at.space(jn.spaces.nas_bench_201(channels=16, cells_per_stage=5)),
        network=at.network(jn.spaces.nas_bench_201_network(channels=16, cells_per_stage=5)),
        training=at.training(jn.recipes.nas_bench_201()),
        worth=looked_up(table) if table else retrained,
    )


if __name__ == "__main__":
    main(__doc__, recipe, EXPECTED, "table")
