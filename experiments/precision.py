"""How much of alpha's gradient survives shorter numbers? bfloat16 and TF32 beside float32 along a real search.

Paper: Liu et al. 2019, arXiv:1806.09055, equations 7 and 8. Ten steps of a first-order search in float32. At each of
them the gradient of alpha is computed three ways (first order, exact second order, the official central
difference), in float32 and in shorter numbers, at the same weights and on the same images. The two second orders are
also compared by their implicit term alone, which the direct term hides in the whole. The shorter numbers:

    bfloat16              activations in bfloat16, as `jaxnas search --precision bfloat16` computes on a CPU. Arrays
                          that are written are rounded; inside a fused loop XLA may keep float32, on any platform
    bfloat16, no excess   the same with every single operation rounded (`xla_allow_excess_precision` off)
    bfloat16 products     float32 activations; both operands of each convolution and matrix product, in all derivatives
                          too, rounded to 8 bits, products and sums in float32
    TF32 products         the same with 11 bits

A CPU has no short products, so the last two are made by rounding, which is what an accelerator does with float32
operands; it may sum in another order.

    python -m experiments.precision             # digits; some minutes, nearly all of them compiling
    python -m experiments.precision --smoke     # S2, two steps

Writes precision.json into --out, and prints a table in Markdown.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import typer
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from experiments.exactness import agreement
from jaxnas import augmentation, data, spaces
from jaxnas.cache import keep_programs
from jaxnas.compiler import quick
from jaxnas.folder import write
from jaxnas.hypergradient import INNER, OUTER, Batches, finite_difference, first_order, one_pass, through, unrolled
from jaxnas.planning import named
from jaxnas.precision import BFLOAT16
from jaxnas.record import environment
from jaxnas.search import bind
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.optimizers import heavy_ball

SHORT = {"bfloat16 products": 7, "TF32 products": 10}  # bits of the fraction that are kept
NO_EXCESS = "bfloat16, no excess"
KINDS = ("bfloat16", NO_EXCESS, *SHORT)
PARTS = {
    "first": "first order",
    "exact": "exact second order",
    "official": "official finite difference",
    "exact_term": "exact second order, implicit term",
    "official_term": "official finite difference, implicit term",
}


# ------------------------------------------------------------------------------------------------ short products


def with_short_products(function: Callable[..., Any], bits: int) -> Callable[..., Any]:
    """The function with the operands of each convolution and matrix product rounded; products and sums stay float32.

    Args:
      function: of arrays; its derivatives have to be taken inside.
      bits: of the fraction that are kept: 7 in bfloat16, 10 in TF32.
    """

    def call(*args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shape), _evaluate(closed, bits, jax.tree.leaves(args)))

    return call


def _evaluate(closed: ClosedJaxpr, bits: int, args: Sequence[Array]) -> list[Array]:
    jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *args], strict=True))
    read = lambda one: one.val if isinstance(one, Literal) else known[one]
    for equation in jaxpr.eqns:
        values = [read(one) for one in equation.invars]
        if is_product(equation.primitive.name):
            values = [_rounded(x, bits) for x in values]
        params = {name: _inside(value, bits) for name, value in equation.params.items()}
        found = equation.primitive.bind(*values, **equation.primitive.get_bind_params(params))
        known |= zip(equation.outvars, found if equation.primitive.multiple_results else [found], strict=True)
    return [read(one) for one in jaxpr.outvars]


def is_product(name: str) -> bool:
    """Whether a primitive is what an accelerator gives to its unit for matrix products."""
    return name in ("dot_general", "conv_general_dilated") or name.endswith(("_convolve", "_correlate"))


def _rounded(x: Array, bits: int) -> Array:
    return lax.reduce_precision(x, 8, bits) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _inside(value: Any, bits: int) -> Any:
    """What a primitive holds, with short products where it is a program."""
    if isinstance(value, ClosedJaxpr):
        return jax.make_jaxpr(lambda *args: _evaluate(value, bits, args))(*value.in_avals)
    if isinstance(value, Jaxpr):
        return _inside(ClosedJaxpr(value, ()), bits).jaxpr
    return tuple(_inside(one, bits) for one in value) if type(value) is tuple else value  # no record of numbers


# ------------------------------------------------------------------------------------------------ the study


class Numbers(NamedTuple):
    """What one kind of numbers makes of a pass and of both implicit terms, compiled."""

    one_pass: Callable[..., Any]  # (state, level, weights, batch) -> (grad_w, grad_alpha)
    exact: Callable[..., Any]  # (state, batches, g, v) -> the implicit term
    official: Callable[..., Any]  # the same, by the central difference


def gradients(numbers: Numbers, ahead, state, batches: Batches) -> dict[str, Any]:
    """Alpha's gradient three ways at one state, and both implicit terms; names as in PARTS."""
    weights = state.bilevel.weights
    _, first = numbers.one_pass(state, OUTER, weights, batches.valid)
    g, _ = numbers.one_pass(state, INNER, weights, batches.train)
    v, direct = numbers.one_pass(state, OUTER, ahead(weights, g, state.bilevel.weights_opt), batches.valid)
    terms = {name: getattr(numbers, name)(state, batches, g, v) for name in ("exact", "official")}
    whole = {name: optax.tree.add(direct, term) for name, term in terms.items()}
    return {"first": first, **whole, **{f"{name}_term": term for name, term in terms.items()}}


def compiled(kind: str, strategy, space, augment, ahead) -> Numbers:
    """The programs of one kind of numbers; compiled where they are first called, fast and not to fast code."""
    search = bind(strategy, space, augment=BFLOAT16.cast(augment) if kind in ("bfloat16", NO_EXCESS) else augment)

    def run(state, level, weights, batch):
        return one_pass(search.problem(state), level, weights, state.bilevel.alpha, batch)[1]

    def term(hypergradient):
        return lambda state, batches, g, v: hypergradient.indirect(search.problem(state), state.bilevel, batches, g, v)

    bits = SHORT.get(kind)
    short = (lambda function: with_short_products(function, bits)) if bits else (lambda function: function)
    options = {**quick(), "xla_allow_excess_precision": kind != NO_EXCESS}
    build = lambda function: jax.jit(short(function), compiler_options=options)
    return Numbers(build(run), build(term(unrolled(ahead))), build(term(finite_difference(ahead))))


def recipe(full: data.Dataset, make_space, kinds: Sequence[str], batch: int, steps: int, out: Path, seed: int = 0):
    """Searches in float32, and gives one row for each step, kind of numbers and part of the gradient."""
    parts, rows = data.split(full, seed=seed), []
    space = make_space(classes=full.classes, image=full.train.image.shape[1:])
    augment = augmentation.default_augmentation(full, augmentation.statistics(parts.train))
    strategy = darts(steps, hypergradient=first_order(), alpha_rate=3e-3)
    ahead = through(heavy_ball(0.025, momentum=0.9, decay=3e-4), part=lambda state: state[1])
    search = bind(strategy, space, augment=augment)
    state, step = (jax.jit(one, compiler_options=quick()) for one in (search.init, search.step))
    state = state(jax.random.key(seed))
    look = {kind: compiled(kind, strategy, space, augment, ahead) for kind in ("float32", *kinds)}
    orders = [np.random.default_rng(seed + i).permutation(len(half.label)) for i, half in enumerate(parts[:2])]
    for t in range(steps):
        at = [np.take(order, np.arange(t * batch, (t + 1) * batch), mode="wrap") for order in orders]
        batches = Batches(*(data.take(half, jnp.asarray(i)) for half, i in zip(parts[:2], at, strict=True)))
        found = {kind: gradients(numbers, ahead, state, batches) for kind, numbers in look.items()}
        rows += [row(t, kind, part, found) for kind in kinds for part in PARTS]
        state, metrics = step(state, batches)
        print(json.dumps(rows[-1]), flush=True)
    told = {"dataset": full.name, "space": space.name, "channels": space.skeleton[0].channels, "batch": batch}
    told |= {"layers": len(space.skeleton), "steps": steps, "seed": seed, "loss": float(metrics["train"]["loss"])}
    out.mkdir(parents=True, exist_ok=True)
    write(out / "precision.json", json.dumps({**told, **environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))
    return rows


def row(step: int, kind: str, part: str, found: Mapping[str, Any]) -> dict[str, Any]:
    numbers = agreement(found[kind][part], found["float32"][part])
    return {"step": step, "kind": kind, "part": part, **{name: float(value) for name, value in numbers.items()}}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Cosine to float32, mean and least over the steps, and mean relative error: a line for each part and kind."""
    lines = [
        "| gradient of alpha | numbers | cosine, mean | cosine, least | relative error, mean |",
        "|" + " --- |" * 5,
    ]
    for part, told in PARTS.items():
        for kind in dict.fromkeys(r["kind"] for r in rows):
            mine = [r for r in rows if (r["part"], r["kind"]) == (part, kind)]
            cosines, errors = ([r[name] for r in mine] for name in ("cosine", "error"))
            numbers = f"{np.mean(cosines):.4f} | {min(cosines):.4f} | {np.mean(errors):.3f}"
            lines.append(f"| {told} | {kind} | {numbers} |")
    return "\n".join(lines)


def main(
    dataset: Annotated[str, typer.Option(help="digits, or a TFDS name.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with prepared TFDS data sets.")] = None,
    channels: int = 4,
    layers: int = 3,
    kinds: Annotated[
        str, typer.Option(help=f"Some of: {'; '.join(KINDS)}; semicolons between.")
    ] = "bfloat16;bfloat16 products",
    batch: int = 32,
    steps: int = 10,
    seed: int = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="Digits, the space S2, two steps of batch 8.")] = False,
    out: Path = Path("runs/precision"),
) -> None:
    """Alpha's gradient in shorter numbers beside float32, along a real search."""
    keep_programs()
    make = partial(spaces.darts, channels, layers)
    if smoke:
        dataset, make, batch, steps = "digits", partial(spaces.s2, 2, 3), 8, 2
    known = {kind: kind for kind in KINDS}
    asked = [named(known, kind.strip(), "kind of numbers") for kind in kinds.split(";")]
    recipe(data.load(dataset, data_dir), make, asked, batch, steps, out, seed)


if __name__ == "__main__":
    typer.run(main)
