"""What XLA is told besides the program: options whose defaults are slower here, or unsafe.

Where in the river: under everything that is compiled to run long. Knows no program.

On CPU a first-order step takes 0.89 of its time with both of its options, as BUILD.md measures: vectors as wide as the
machine has them, and no kernel of YNNPACK, which is worth its while for long sums only, of which `spaces/sums.py`
leaves none; a program that holds many of its fusions also takes long to load again.

On GPUs matrix products are cuBLAS calls and not fusions of Triton: these abort XLA's compiler (jaxlib 0.10 and 0.11)
where strided slices stand in front of a product. `spaces/pointwise.py` keeps the two apart already, also in a user's
own `jax.jit(search.step)`, which this does not reach; so this is the second belt, for products that are none of ours.
"""

from functools import cache
from typing import Any

import jax

CPU: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_experimental_ynn_fusion_type": ""}
GPU: dict[str, Any] = {"xla_gpu_enable_triton_gemm": False}
QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@cache
def options() -> dict[str, Any]:
    """What `lowered.compile` or `jax.jit(compiler_options=)` should get on the default platform.

    Returns:
      {name: value} of those above that this version of XLA knows; {} on TPUs.
    """
    return _those_known({"cpu": CPU, "gpu": GPU}.get(jax.default_backend(), {}))


@cache
def quick() -> dict[str, Any]:
    """The same for a program that runs once: compiled fast, not to fast code.

    Returns:
      {name: value} of `QUICK` that this version of XLA knows; the old emitters of fusions are gone from JAX 0.11 on.
    """
    return _those_known(QUICK)


def _those_known(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if _known(name, value)}


def _known(name: str, value: Any) -> bool:
    """Whether XLA takes an option: it refuses a program over a name that it does not know, and names come and go."""
    try:
        jax.jit(lambda: 0.0).lower().compile({name: value})
    except Exception:  # of a type that differs between versions
        return False
    return True
