"""How a search is doing: curvature, trace and slope of the validation loss in alpha, and how far seeds agree.

Where in the river: on the bank, looking on. Knows the two losses at one state, gates and genotypes; it moves nothing.
Curvature is known by its products with vectors only, so that one compiled program, looped, serves all measures.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxnas.hypergradient import Batches, Problem
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype

Measure = Callable[[SearchState, Batches], Mapping[str, Array]]  # {name: scalar}; pure, compiled by the runner


class Watch(NamedTuple):
    """What a run measures of itself, after the epochs 1, 1 + every, 1 + 2 every ... of a stage and after its last."""

    measure: Callable[[Search], Measure]  # on the last batches of the epoch
    every: int = 2  # epochs; 2 in the official code


class Curvature(NamedTuple):
    """The Hessian of the outer loss in alpha, H = grad^2_alpha L_outer(w, alpha) + decay I, as a product with vectors.

    Alpha is any pytree; its N numbers are in the order of `ravel_pytree`.
    """

    product: Callable[[Array], tuple[Array, Array]]  # v [N] -> (H v, gradient without decay), [N] each
    like: Array  # [N], alpha itself


def alpha_curvature(problem: Problem, weights: Any, alpha: Any, batch: Any, decay: float = 0.0) -> Curvature:
    """The curvature of the first-order outer loss: the weights count as constants.

    Args:
      problem, weights, alpha, batch: where; `search.problem(state)` at one state, a validation batch.
      decay: L2 decay of alpha, whose own curvature is `decay` times the identity.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 4; automl/RobustDARTS `src/search/analyze.py`, `compute_Hw`.
    Deviates: forward over reverse instead of row by row in reverse twice.
    """
    flat, unravel = ravel_pytree(alpha)

    def slope(a: Array) -> Array:
        grads = problem.mean(jax.grad(problem.outer, 1, has_aux=True)(weights, unravel(a), batch)[0])
        return ravel_pytree(grads)[0]

    def product(v: Array) -> tuple[Array, Array]:
        gradient, along = jax.jvp(slope, (flat,), (v,))
        return along + decay * v, gradient

    return Curvature(product, flat)


def hessian(curvature: Curvature, chunk: int = 1) -> tuple[Array, Array]:
    """The whole matrix [N, N] and the gradient [N], by N products in one loop.

    Args:
      curvature: from `alpha_curvature`.
      chunk: products at once; 1 needs least memory, more fill an accelerator.

    Raises:
      ValueError: for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"hessian(chunk={chunk}): make at least 1 product at once.")
    size = curvature.like.size
    rows = jnp.eye(-(-size // chunk) * chunk, size, dtype=curvature.like.dtype)  # filled up: one shape, one program
    rows = rows.reshape(-1, chunk, size)
    one = curvature.product if chunk == 1 else jax.vmap(curvature.product)
    found, gradients = lax.map(lambda v: one(v[0] if chunk == 1 else v), rows)
    matrix = found.reshape(-1, size)[:size]
    return (matrix + matrix.T) / 2, gradients.reshape(-1, size)[0]


def lanczos(curvature: Curvature, key: Array, iterations: int) -> Array:
    """Ritz values of the Hessian, rising: the outermost soon equal its outermost eigenvalues.

    k products, each new direction made orthogonal to all before, twice. Where the products have spanned all that the
    first direction reaches, the rest are copies of its Rayleigh quotient, which lies between the others.

    Args:
      curvature: from `alpha_curvature`.
      key: draws the first direction.
      iterations: k, at most N; the values returned.

    Raises:
      ValueError: for fewer than 1 or more than N.

    Reference: Golub and Van Loan 2013, Matrix Computations, section 10.3.
    """
    size, dtype = curvature.like.size, curvature.like.dtype
    if not 1 <= iterations <= size:
        raise ValueError(f"lanczos(iterations={iterations}): alpha has {size} numbers, so choose 1 to {size}.")
    start = jax.random.normal(key, (size,), dtype)
    basis = jnp.zeros((iterations + 1, size), dtype).at[0].set(start / jnp.linalg.norm(start))
    zero = jnp.zeros((), dtype)

    def extend(carry: tuple[Array, Array, Array], i: Array):
        basis, first, scale = carry
        image = curvature.product(basis[i])[0]
        along = jnp.where((basis[i] == 0).all(), first, basis[i] @ image)
        scale = jnp.maximum(scale, jnp.linalg.norm(image))
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        length = jnp.linalg.norm(image)
        ended = length <= size * jnp.finfo(dtype).eps * scale
        direction = jnp.where(ended, 0, image / jnp.where(ended, 1, length))
        carry = (basis.at[i + 1].set(direction), jnp.where(i == 0, along, first), scale)
        return carry, (along, jnp.where(ended, 0, length))

    _, (diagonal, beside) = lax.scan(extend, (basis, zero, zero), jnp.arange(iterations))
    return jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))


def estimated_trace(curvature: Curvature, key: Array, samples: int) -> Array:
    """Mean of v H v over random signs v; its variance is 2/samples times the squares off the diagonal, each pair twice.

    Args:
      curvature: from `alpha_curvature`.
      key: draws the signs.
      samples: products; at least 1.

    Reference: Hutchinson 1990, doi 10.1080/03610919008812866.
    """
    signs = jax.random.rademacher(key, (samples, curvature.like.size), curvature.like.dtype)
    return lax.map(lambda v: v @ curvature.product(v)[0], signs).mean()


def spectrum(search: Search, *, decay: float = 1e-3, chunk: int = 1) -> Measure:
    """Exact: {"curvature": largest eigenvalue, "trace", "alpha_slope": norm of the gradient}, from N products.

    Args:
      search: from `bind`.
      decay: L2 decay of alpha; 1e-3 in the rows of the table and in the official code.
      chunk: products at once, as in `hessian`.
    """

    def measure(state: SearchState, batches: Batches) -> dict[str, Array]:
        matrix, gradient = hessian(_at(search, state, batches, decay), chunk)
        top = jnp.linalg.eigvalsh(matrix)[-1]
        return {"curvature": top, "trace": jnp.trace(matrix), "alpha_slope": jnp.linalg.norm(gradient)}

    return measure


def estimated_spectrum(search: Search, *, iterations: int = 16, decay: float = 1e-3) -> Measure:
    """For larger spaces: {"curvature": largest eigenvalue, from below}, by so many products (`lanczos`).

    Args:
      search: from `bind`.
      iterations: products; as many as alpha has numbers at most.
      decay: L2 decay of alpha; 1e-3 in the rows of the table and in the official code.
    """

    def measure(state: SearchState, batches: Batches) -> dict[str, Array]:
        key = jax.random.fold_in(state.key, state.bilevel.step)
        at = _at(search, state, batches, decay)
        return {"curvature": lanczos(at, key, min(iterations, at.like.size))[-1]}

    return measure


def _at(search: Search, state: SearchState, batches: Batches, decay: float) -> Curvature:
    return alpha_curvature(
        search.problem(state), state.bilevel.weights, state.bilevel.alpha, batches.valid, decay=decay
    )


# ------------------------------------------------------------------------------------------ across seeds


def agreement(genotypes: Sequence[Genotype]) -> float:
    """Share of equal choices, 2 |A and B| / (|A| + |B|), averaged over all pairs: 1 where all seeds found the same.

    A choice is an operation on an edge of one cell type.

    Args:
      genotypes: one of each seed.

    Raises:
      ValueError: for fewer than two genotypes.
    """
    chosen = [{(cell, choice) for cell in found.names for choice in found.edges(cell)} for found in genotypes]
    return _mean_over_pairs(lambda a, b: 2 * len(a & b) / (len(a) + len(b)), chosen)


def correlation(scores: Sequence[Mapping[str, Any]]) -> float:
    """Pearson correlation of the scores of all operations on all edges, averaged over all pairs of seeds.

    Args:
      scores: of each seed {cell: [E, O]}; dead operations must have the same score everywhere. Scores that do not
        vary correlate 0.

    Raises:
      ValueError: for fewer than two seeds.
    """
    flat = [np.concatenate([np.ravel(found[cell]) for cell in sorted(found)]) for found in scores]
    centred = [row - row.mean() for row in flat]
    return _mean_over_pairs(_cosine, centred)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0


def _mean_over_pairs(compare: Callable[[Any, Any], float], found: Sequence[Any]) -> float:
    if len(found) < 2:
        raise ValueError(f"{len(found)} given: agreement is between seeds, so give at least two.")
    pairs = [compare(a, b) for a, b in combinations(found, 2)]
    return sum(pairs) / len(pairs)
