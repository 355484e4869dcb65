"""What helps at the command line: examples, exit codes, and names that the shell completes.

Where in the river: the outermost shore, under `cli`. Knows names as text; runs nothing, and loads neither JAX
nor numpy: a person waits for it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from jaxnas.choices import DEVICES, KINDS, LAYOUTS, PRECISIONS, PUBLISHED, RECIPES, SPACES, STOPS, STRATEGIES, TABULAR

EXAMPLES: dict[str, tuple[str, ...]] = {  # command -> lines that work as they stand, with the reader's own folders
    "search": (
        "jaxnas search",
        "jaxnas search --strategy pc-darts --epochs 20 --seed 1 --out runs/a --live",
        "jaxnas search --dataset cifar10 --data-dir DIR --channels 16 --depth 8 --epochs 50",
        "jaxnas search --dataset mine.npz --space nas_bench_201 --strategy gdas --json",
        "jaxnas search --strategy pc-darts --set weights.rate=0.05 --show",
        "jaxnas search --config run.toml --set alpha.beta1=0.9",
        "jaxnas search --out runs/a --resume",
    ),
    "draw": ("jaxnas draw runs/a", "jaxnas draw DARTS_V2 --out darts.svg"),
    "info": (
        "jaxnas info",
        "jaxnas info DARTS_V2 --json",
        "jaxnas info --space nas_bench_201 --channels 16 --depth 5",
    ),
    "list": ("jaxnas list", "jaxnas list strategies", "jaxnas list datasets --data-dir DIR --json"),
    "methods": ("jaxnas methods", "jaxnas methods --markdown"),
    "report": ("jaxnas report runs/a", "jaxnas report runs/a --out a.html"),
    "evaluate": (
        "jaxnas evaluate runs/a",
        "jaxnas evaluate DARTS_V2 --recipe cifar --dataset cifar10 --data-dir DIR --out runs/trained",
        "jaxnas evaluate runs/a --set rate=0.1 --set drop_path=0.2",
    ),
    "export": ("jaxnas export runs/trained --out files", "jaxnas export runs/trained --out files --flax"),
    "compare": ("jaxnas compare runs/darts-0 runs/darts-1 runs/random-0 runs/random-1 --out fair",),
    "ablate": ("jaxnas ablate --strategy pc-darts --seeds 3 --out runs/parts",),
    "lookup": ("jaxnas lookup runs/a --table table.npz", "jaxnas lookup runs/a --table table.npz --json"),
    "tabular": ("jaxnas tabular --table table.npz --method random --method evolution --runs 100 --out tabular",),
}
DATASET = (
    "digits (in the package), a TFDS name such as cifar10, a .npz file with 'image' and 'label', or a folder/ with a "
    "sub-folder of images for each class, or as Hugging Face datasets saves a set."
)
PRECISION = (
    "Numbers of the network: float32; tf32, float32 with shorter products on GPU and TPU; bfloat16, activations in "
    "bfloat16. Weights, alpha, losses and optimizers are float32 in each."
)
PRODUCTS = (
    "What products keep of float32 operands: float32, tf32 or bfloat16 (the least that the device offers); that of "
    "--precision unless given."
)
LAYOUT = (
    "How the supernet is compiled: side-by-side (few large kernels, all activations kept: GPU and TPU), "
    "side-by-side-recomputed (a cell's are computed again), in-loops (least memory: CPU); auto: the first that fits."
)
RESUME = "Continue the run in --out; what is not given is as it was."
SMOKE = "One epoch on 16 images, whatever --epochs, --batch and --fraction say: does it run at all?"
TENSORBOARD = "Write each epoch there for TensorBoard too, a search its alpha as well; needs tensorboardX."
PROFILE = "Trace steps 2 to 4 there, for TensorBoard and Perfetto; how to open it is told at the end."
EXIT_CODES = {
    0: "done",
    1: "something that you can mend: one sentence on stderr says what",
    2: "the command was not understood",
    130: "Ctrl-C; a search or training goes on with --resume",
    143: "SIGTERM; the same",
}


def epilog(command: str) -> str:
    """The examples of a command, as its help shows them."""
    return "\n\n".join(["[bold]Examples[/bold]", *(line.replace("[", r"\[") for line in EXAMPLES[command])])


def exits() -> str:
    """The exit codes, as the help of `jaxnas` shows them."""
    return "\n\n".join(["[bold]Exit codes[/bold]", *(f"{code}: {told}" for code, told in EXIT_CODES.items())])


def completing(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Completes one of these names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def a_dataset(incomplete: str) -> list[str]:
    """Completes digits, a set that lies ready where TFDS keeps its own, or the path of an .npz file."""
    from jaxnas.datasets.prepared import prepared_sets  # and numpy

    names = ["digits", *(one["name"] for one in prepared_sets())]
    paths = [path for path in _paths(incomplete) if path.endswith(("/", ".npz"))]
    return [name for name in names if name.startswith(incomplete)] + paths


def a_genotype(incomplete: str) -> list[str]:
    """Completes a published genotype, or a path."""
    return [name for name in PUBLISHED if name.startswith(incomplete)] + _paths(incomplete)


def _paths(incomplete: str) -> list[str]:
    """Files and folders that begin so."""
    head, slash, _ = incomplete.rpartition("/")
    base = head + slash
    try:
        found = sorted(Path(base or ".").iterdir())
    except OSError:
        return []
    shown = [f"{base}{path.name}{'/' if path.is_dir() else ''}" for path in found]
    return [path for path in shown if path.startswith(incomplete)]


a_strategy = completing(STRATEGIES)
a_space = completing(SPACES)
a_rule = completing(STOPS)
a_placement = completing(DEVICES)
a_precision = completing(PRECISIONS)
a_layout = completing(LAYOUTS)
a_recipe = completing(RECIPES)
a_tabular_method = completing(TABULAR)
a_kind = completing(KINDS)
