"""What this machine reaches on the two things that everything else is made of: products and copies."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Machine(NamedTuple):
    """Reached, not promised."""

    matmul_side: int
    matmul_gflops: float  # 1e9 operations each second; a multiply-add counts two
    copy_bytes: int
    copy_gb_per_second: float  # 1e9 bytes each second, read and written


def machine(repeats: int = 5, *, side: int | None = None, size: int | None = None) -> Machine:
    """The best of some products of two square matrices and of some passes over a large array.

    Products have the precision that JAX is set to, so that a step can be compared with them.

    Args:
      repeats: how often each is timed.
      side: of the matrices; 2048 on CPU, 8192 elsewhere, unless given.
      size: bytes of the array; 256 MiB on CPU, 1 GiB elsewhere, unless given.
    """
    on_cpu = jax.default_backend() == "cpu"
    side = side or (2048 if on_cpu else 8192)
    count = (size or (2**28 if on_cpu else 2**30)) // 4
    a = jnp.ones((side, side), jnp.float32)
    product = best(jax.jit(lambda a: a @ a * (1 / side)), a, repeats)
    scale = jax.jit(lambda x: x * 1.5, donate_argnums=0)  # in place: no page is touched for the first time
    copy = best(scale, jnp.ones(count, jnp.float32), repeats)
    return Machine(side, 2 * side**3 / product / 1e9, 4 * count, 8 * count / copy / 1e9)


def best(function, x, repeats: int) -> float:
    """Least seconds of x = function(x), after one call that is not counted."""
    x, seconds = jax.block_until_ready(function(x)), []
    for _ in range(repeats):
        began = time.perf_counter()
        x = jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - began)
    return min(seconds)
