"""How the outer loss depends on alpha: directly, and through the weights.

Where in the river: loss -> the gradient of alpha. Knows pytrees, optax and a loss for each of two levels; no cell, no
network, no random key, no device.

    min_alpha  L_outer(w*(alpha), alpha)    subject to    w*(alpha) = argmin_w L_inner(w, alpha)

Every hypergradient here has the same two terms,

    d/dalpha L_outer  =  grad_alpha L_outer(w', alpha)  +  indirect(v),     v = grad_w L_outer(w', alpha)

and differs only in where it looks (w', a `Lookahead`) and in how it pulls v back through the weights (`indirect`). The
first term is the same program as a move of the weights, on another batch: `bilevel.py` compiles it once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxnas.spec import Count, Positive, specified

Weights = Any  # pytree of arrays
Alpha = Any  # pytree of arrays
Grads = Any  # of the weights, like them
Batch = Any  # pytree of arrays, what a loss is a mean over
OptState = Any  # of an optax transformation
Metrics = Any  # pytree of scalars
INNER, OUTER = 0, 1  # the level of a loss: weights are trained on the inner one, alpha on the outer one


def identity(tree: Any) -> Any:
    """The tree itself: the average over one device."""
    return tree


class Problem(NamedTuple):
    """The losses of both levels, and the average over devices."""

    loss: Callable[[Any, Weights, Alpha, Batch], tuple[Array, Metrics]]  # (level, weights, alpha, batch)
    mean: Callable[[Any], Any] = identity  # pytree -> pytree
    one_program: bool = True  # whether the passes of a step are one program in a loop, or each is written out

    def inner(self, weights: Weights, alpha: Alpha, batch: Batch) -> tuple[Array, Metrics]:
        """Training loss and what to report."""
        return self.loss(INNER, weights, alpha, batch)

    def outer(self, weights: Weights, alpha: Alpha, batch: Batch) -> tuple[Array, Metrics]:
        """Validation loss (with penalties) and what to report."""
        return self.loss(OUTER, weights, alpha, batch)


class Batches(NamedTuple):
    """One batch for each level; the same shapes let one compiled pass serve both."""

    train: Batch
    valid: Batch


class BilevelState(NamedTuple):
    """Everything that two players carry from step to step."""

    step: Array  # [] int32
    weights: Weights
    alpha: Alpha
    weights_opt: OptState
    alpha_opt: OptState


Lookahead = Callable[[Weights, Grads, OptState], Weights]
Indirect = Callable[[Problem, BilevelState, Batches, Grads, Grads], Alpha]  # (..., g, v) -> the second term


class Hypergradient(NamedTuple):
    """Where to look, and how what is seen there depends on alpha through the weights."""

    lookahead: Lookahead  # (weights, g, state of the optimizer) -> w'
    indirect: Indirect  # g = grad_w L_inner(w, alpha), unused where the look-ahead stays
    reads_v: bool = True  # if `indirect` does not, v is not computed: it must not pass it on either
    subtracts: bool = False  # whether it subtracts gradients at near-by weights, which short numbers drown


def two_losses(inner: Callable, outer: Callable, mean: Callable[[Any], Any] = identity) -> Problem:
    """A problem from two separate losses `(weights, alpha, batch) -> (scalar, metrics)` of one structure.

    Both are compiled into every pass; a loss that takes the level as an array is smaller.

    Args:
      inner, outer: what the weights descend, and what alpha descends.
      mean: average over devices, where the batch is dealt out to several.
    """

    def loss(level, weights, alpha, batch):
        if isinstance(level, int):
            return (inner, outer)[level](weights, alpha, batch)
        return lax.cond(level == INNER, inner, outer, weights, alpha, batch)

    return Problem(loss, mean)


def stay(weights: Weights, grads: Grads, opt_state: OptState) -> Weights:
    """Looks at the weights where they are."""
    del grads, opt_state
    return weights


def move(tx: optax.GradientTransformation, grads: Grads, opt_state: OptState, params: Any) -> tuple[Any, OptState]:
    """One optax step: (params', state'). Optax counts in integers and needs standard promotion to divide by them."""
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


@specified
def through(tx: optax.GradientTransformation, part: Callable[[OptState], OptState] = identity) -> Lookahead:
    """One step of an optimizer from its present state: w' = w + update(grad_w L_inner).

    Args:
      tx: the optimizer that moves the weights, or a part of it (the official DARTS looks ahead without clipping).
      part: finds that part's state in the state of the whole.
    """

    def lookahead(weights: Weights, grads: Grads, opt_state: OptState) -> Weights:
        return move(tx, grads, part(opt_state), weights)[0]

    return lookahead


def first_order() -> Hypergradient:
    """grad_alpha L_outer(w, alpha): the weights count as constants.

    Reference: Liu et al. 2019, arXiv:1806.09055, section 2.3, xi = 0.
    """

    def indirect(problem: Problem, state: BilevelState, batches: Batches, g: Grads, v: Grads) -> Alpha:
        del problem, batches, g, v
        return jax.tree.map(jnp.zeros_like, state.alpha)

    return Hypergradient(stay, indirect, reads_v=False)


@specified
def unrolled(lookahead: Lookahead) -> Hypergradient:
    """Exact derivative of L_outer(w'(alpha), alpha) through one look-ahead step, forward over reverse.

    With u = (dw'/dg)^T v, the look-ahead pulled back to the training gradient g = grad_w L_inner(w, alpha):

        indirect = d/dr grad_alpha L_inner(w + r u, alpha)  at r = 0

    the same value as differentiating the step, in a quarter of its memory.

    Args:
      lookahead: the step that is looked ahead, any optax transformation: `through(tx)`.

    Reference: Liu et al. 2019, arXiv:1806.09055, equation 7.
    Deviates: exact; the official code takes a central difference, see `finite_difference`.
    """

    def indirect(problem: Problem, state: BilevelState, batches: Batches, g: Grads, v: Grads) -> Alpha:
        u = _pull_back(lookahead, state, g, v)
        return _mixed(problem, state, batches.train, u)

    return Hypergradient(lookahead, indirect)


@specified
def finite_difference(lookahead: Lookahead, radius: Positive = 1e-2) -> Hypergradient:
    """The official estimate of `unrolled`, for parity: a central difference of grad_alpha L_inner along v.

        indirect = -xi [grad_alpha L_inner(w + R v, alpha) - grad_alpha L_inner(w - R v, alpha)] / 2R,  R = radius/|v|

    At the official size its error is longer than the term itself: ReLU and max-pool kinks lie between w + R v and
    w - R v. `unrolled` has no such error.

    Args:
      lookahead: `through(tx)` for a plain step -xi g; xi is read off it. It must be linear in g with one factor for
        all weights, as SGD is.
      radius: length of the shift in weight space.

    Reference: Liu et al. 2019, arXiv:1806.09055, equation 8; quark0/darts `cnn/architect.py`.
    Deviates: where v = 0 the official R is infinite; here the term is 0.
    """

    def indirect(problem: Problem, state: BilevelState, batches: Batches, g: Grads, v: Grads) -> Alpha:
        square = jnp.maximum(optax.tree.norm(v, squared=True), float(jnp.finfo(jnp.float32).tiny))
        r = radius * lax.rsqrt(square)
        xi = -optax.tree.vdot(_pull_back(lookahead, state, g, v), v) / square
        shifted = lambda way: _grad_alpha(problem, _add(state.weights, v, way * r), state.alpha, batches.train)
        ways = lax.map(shifted, jnp.array([1, -1], r.dtype))
        return jax.tree.map(lambda x: -(xi / (2 * r)).astype(x.dtype) * (x[0] - x[1]), ways)

    return Hypergradient(lookahead, indirect, subtracts=True)


@specified
def neumann(terms: int, learning_rate: float | optax.Schedule) -> Hypergradient:
    """Implicit differentiation with a truncated Neumann series for the inverse Hessian.

        indirect = -grad^2_{alpha w} L_inner  [ eta sum_{k <= terms} (I - eta H)^k v ],    H = grad^2_w L_inner

    Args:
      terms: number of Hessian-vector products; 0 keeps the identity only.
      learning_rate: eta, or eta of the step; below 2 / (largest eigenvalue of H) for convergence.

    Reference: Lorraine et al. 2020, arXiv:1911.02590, equation 8; Zhang et al. 2021 (iDARTS), arXiv:2106.10784.
    """
    if terms < 0 or (not callable(learning_rate) and learning_rate <= 0):
        raise ValueError(f"neumann(terms={terms}, learning_rate={learning_rate}): terms >= 0, learning_rate > 0.")

    def indirect(problem: Problem, state: BilevelState, batches: Batches, g: Grads, v: Grads) -> Alpha:
        with jax.numpy_dtype_promotion("standard"):  # schedules of optax divide by integers
            eta = learning_rate(state.step) if callable(learning_rate) else learning_rate

        def add_term(carry, _):
            p, total = carry
            p = _add(p, _hessian_product(problem, state, batches.train, p), -eta)
            return (p, _add(total, p, 1.0)), None

        (_, total), _ = lax.scan(add_term, (v, v), None, length=terms)
        return _mixed(problem, state, batches.train, jax.tree.map(lambda x: -jnp.asarray(eta, x.dtype) * x, total))

    return Hypergradient(stay, indirect)


@specified
def conjugate_gradient(iterations: Count, damping: float = 0.0) -> Hypergradient:
    """Implicit differentiation with conjugate gradients: indirect = -grad^2_{alpha w} L_inner (H + damping I)^-1 v.

    Args:
      iterations: at most so many Hessian-vector products.
      damping: added to the diagonal; H must be positive definite with it.

    Reference: Pedregosa 2016, arXiv:1602.02355; Rajeswaran et al. 2019 (iMAML), arXiv:1909.04630, section 3.2.
    """
    if iterations < 1 or damping < 0:
        raise ValueError(f"conjugate_gradient({iterations}, damping={damping}): iterations >= 1, damping >= 0.")

    def indirect(problem: Problem, state: BilevelState, batches: Batches, g: Grads, v: Grads) -> Alpha:
        product = lambda p: _add(_hessian_product(problem, state, batches.train, p), p, damping)
        precision = float(jnp.finfo(optax.tree.norm(v).dtype).eps)  # with 0 it would go on into 0 / 0
        solution, _ = jax.scipy.sparse.linalg.cg(product, v, maxiter=iterations, tol=precision)
        return _mixed(problem, state, batches.train, jax.tree.map(jnp.negative, solution))

    return Hypergradient(stay, indirect)


def gradient(hypergradient: Hypergradient, problem: Problem, state: BilevelState, batches: Batches) -> Alpha:
    """The whole hypergradient at one state, for tests and diagnostics; a solver never calls it."""
    weights, grads = state.weights, None
    if hypergradient.lookahead is not stay:
        _, (grads, _) = one_pass(problem, INNER, weights, state.alpha, batches.train)
        weights = hypergradient.lookahead(weights, grads, state.weights_opt)
    _, (v, direct) = one_pass(problem, OUTER, weights, state.alpha, batches.valid)
    return optax.tree.add(direct, hypergradient.indirect(problem, state, batches, grads, v))


def one_pass(problem: Problem, level, weights: Weights, alpha: Alpha, batch: Batch):
    """((loss, metrics), (grad_w, grad_alpha)) of one level, averaged over devices."""
    return problem.mean(jax.value_and_grad(problem.loss, (1, 2), has_aux=True)(level, weights, alpha, batch))


def _grad_alpha(problem: Problem, weights: Weights, alpha: Alpha, batch: Batch) -> Alpha:
    return problem.mean(jax.grad(problem.inner, 1, has_aux=True)(weights, alpha, batch)[0])


def _mixed(problem: Problem, state: BilevelState, batch: Batch, direction: Grads) -> Alpha:
    """grad^2_{alpha w} L_inner applied to a direction in weight space."""
    gradient = lambda weights: _grad_alpha(problem, weights, state.alpha, batch)
    return jax.jvp(gradient, (state.weights,), (direction,))[1]


def _hessian_product(problem: Problem, state: BilevelState, batch: Batch, direction: Grads) -> Grads:
    """grad^2_w L_inner applied to a direction in weight space."""
    gradient = lambda weights: problem.mean(jax.grad(problem.inner, has_aux=True)(weights, state.alpha, batch)[0])
    return jax.jvp(gradient, (state.weights,), (direction,))[1]


def _pull_back(lookahead: Lookahead, state: BilevelState, grads: Grads, v: Grads) -> Grads:
    """(dw'/dg)^T v at the training gradient g."""
    step = lambda g: lookahead(state.weights, g, state.weights_opt)
    return jax.vjp(step, grads)[1](v)[0]


def global_norm(tree: Any) -> Array:
    """Euclidean norm of a pytree, sqrt(sum x^2), summed as one vector: a sum for each array would be kernels for each.

    Args:
      tree: of arrays of one float type, which is that of the norm; 0 if it is empty.
    """
    return jnp.sqrt(jnp.square(ravel_pytree(tree)[0]).sum())


def _add(a, b, scale):
    return jax.tree.map(lambda x, y: x + jnp.asarray(scale, x.dtype) * y, a, b)
