"""The names that options of the command line take, and the numbers in their help: text only, which loads at once.

Where in the river: the outermost shore. What the names stand for is in `names` and `catalogue`; a test compares them.
"""

STRATEGIES = (
    *("darts", "darts-first-order", "darts-official", "p-darts", "darts-es", "r-darts-l2", "r-darts-drop-path"),
    *("pc-darts", "pc-darts-imagenet", "gdas", "snas", "snas-mild", "snas-moderate", "snas-aggressive", "dr-nas"),
    *("fair-darts", "gaea", "smooth-darts", "nasp", "i-darts", "random-sharing"),
)
SPACES = ("darts", "nas_bench_201", "nasnet", "nasnet-frc", "s1", "s2", "s3", "s4", "darts-frc")
STOPS = ("never", "sharp-rise", "too-many-skips")
DEVICES = ("mesh", "mesh-local", "pmap", "one")
LAYOUTS = ("auto", "side-by-side", "side-by-side-recomputed", "in-loops")
PRECISIONS = ("float32", "tf32", "bfloat16")
RECIPES = ("small", "cifar", "imagenet", "imagenet-linear", "nas-bench-201")
TABULAR = ("random", "evolution", "local", "reinforce")
PUBLISHED = (
    *("NASNET", "AMOEBANET", "PNASNET", "DARTS_V1", "DARTS_V2", "SNAS_MILD", "SNAS_MODERATE", "SNAS_AGGRESSIVE"),
    *("SNAS_MILD_EDGE_ALL", "SNAS_MODERATE_EDGE_ALL", "SNAS_AGGRESSIVE_EDGE_ALL", "GDAS_V1", "GDAS_F1", "GDAS_FG"),
    *("P_DARTS", "PC_DARTS", "PC_DARTS_IMAGENET", "SETN"),
)
KINDS = ("strategies", "spaces", "datasets", "genotypes", "recipes")  # of lists
SAMPLES = (50, 1000, 20)  # genotypes to score: least, most (official), steps of the search for each (official: 19,550)
SHORT = 5000  # steps below which the official rate of alpha, made for 20,000 steps, would leave it where it is
