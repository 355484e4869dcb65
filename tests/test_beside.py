"""Primitives whose cases stand beside the channels of images, [B, H, W, n, C], against the same cases in front."""

import contextlib
import re
from functools import cache, partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.beside import joined, relu, zeros
from jaxnas.spaces.bilinear import beside_channels, in_accelerator_forms
from jaxnas.spaces.dense import dense_convolution
from jaxnas.spaces.depthwise import depthwise_convolution, in_shifts
from jaxnas.spaces.gate import scaled
from jaxnas.spaces.norm import _standardize as norm  # the marked one
from jaxnas.spaces.pointwise import pointwise_convolution
from jaxnas.spaces.pools import average_pool, max_pool
from jaxnas.spaces.sums import affine, moments, over_pixels

X = (2, 5, 4, 3)
FUNCTIONS = {  # of arrays of these shapes: images have four axes
    "pointwise": (pointwise_convolution, X, (3, 4)),
    "dense": (partial(dense_convolution, stride=(2, 1), pad=((1, 1), (0, 2))), X, (3, 2, 3, 2)),
    "depthwise, strided": (partial(depthwise_convolution, stride=2), X, (3, 3, 3)),
    "depthwise, dilated": (partial(depthwise_convolution, dilation=2), X, (3, 3, 3)),
    "maximum": (max_pool, X),
    "maximum, strided": (partial(max_pool, stride=2), X),
    "mean": (average_pool, X),
    "mean, strided": (partial(average_pool, stride=2), X),
    "relu": (relu, X),
    "zeros": (lambda x, gate: zeros(x[:, ::2], gate) + x[:, ::2], X, ()),
    "joined": (joined, X, (*X[:3], 2)),
    "moments": (moments, X, X),
    "affine": (affine, X, (2, 3)),
    "one number": (scaled, X, ()),
    "a number for each channel": (scaled, X, (3,)),
    "over pixels": (lambda values, like: over_pixels(values, like), (3,), X),
    "norm of one scale": (norm, X, (1,)),
    "norm of a scale for each channel": (norm, X, (3,)),
}
FORMS = {
    "CPU": contextlib.nullcontext,
    "accelerators": in_accelerator_forms,
    "accelerators, in shifts": in_shifts,  # of depthwise convolutions
}
ANY = pytest.mark.parametrize(
    ("name", "forms"),
    [
        pytest.param(name, form, marks=[pytest.mark.smoke] * (form == "accelerators"))
        for name in FUNCTIONS
        for form in FORMS
        if form != "accelerators, in shifts" or "depthwise" in name
    ],
    indirect=("forms",),
)


@pytest.fixture
def forms(request):
    """The forms of one platform, on CPU."""
    if request.param == "CPU":
        yield
        return
    jax.clear_caches()
    with in_accelerator_forms(), FORMS[request.param]():
        yield
    jax.clear_caches()


def _draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-9):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-10), actual, expected)


def _arrays(name, *lead):
    """What a function takes, and directions: both with axes in front."""
    shapes = FUNCTIONS[name][1:]
    return [[_draw(i + 10 * way, *lead, *shape) for i, shape in enumerate(shapes)] for way in (0, 1)]


def _all_derivatives(function, at, way):
    """Value, its tangent, gradient of a loss, and the tangent of that."""
    slope = jax.grad(lambda args: jnp.square(jnp.tanh(function(*args))).sum())
    return jax.jvp(lambda args: (function(*args), slope(args)), (at,), (way,))


@cache
def _in_front(name, *lead):
    """What is expected: all cases in front."""
    derivatives = reduce(lambda f, _: jax.vmap(f), lead, partial(_all_derivatives, FUNCTIONS[name][0]))
    return jax.jit(derivatives)(*_arrays(name, *lead))


def _place(axes):
    return 3 if axes == 4 else 0


def _beside(function, shapes):
    """Of arrays with the cases beside the channels where these are images, else in front."""
    result = len(jax.eval_shape(function, *(jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes)).shape)
    return jax.vmap(function, tuple(map(_place, map(len, shapes))), _place(result))


def _moved(tree, cases_first):
    """Cases from the front to beside the channels, or back, in the arrays that are images."""
    way = (0, 3) if cases_first else (3, 0)
    return jax.tree.map(lambda a: jnp.moveaxis(a, *way) if a.ndim == 5 else a, tree)


@pytest.mark.parametrize("count", (1, 3))
@ANY
def test_beside_is_in_front(name, count, forms, x64):
    """Differentiated inside `vmap` and around it: values and derivatives of both orders."""
    function, *shapes = FUNCTIONS[name]
    at, way = _arrays(name, count)
    expected = _in_front(name, count)

    @jax.jit
    def around(at, way):
        with beside_channels():
            return _all_derivatives(_beside(function, shapes), at, way)

    @jax.jit
    def inside(at, way):
        axes = [_place(len(shape)) for shape in shapes]
        results = jax.tree.map(lambda a: _place(a.ndim - 1), expected)
        with beside_channels():
            return jax.vmap(partial(_all_derivatives, function), (axes, axes), results)(at, way)

    at, way = _moved((at, way), True)
    _close(_moved(around(at, way), False), expected)
    _close(_moved(inside(at, way), False), expected)


@ANY
def test_many_of_them_in_front(name, forms, x64):
    """As seeds under `vmap` are: cases beside the channels, and programs in front."""
    function, *shapes = FUNCTIONS[name]
    at, way = _arrays(name, 2, 3)
    expected = _in_front(name, 2, 3)

    def one(at, way):
        with beside_channels():
            found = _all_derivatives(_beside(function, shapes), *_moved((at, way), True))
        return _moved(found, False)

    _close(jax.jit(jax.vmap(one))(at, way), expected)


@pytest.mark.smoke
@pytest.mark.parametrize("forms", ("CPU", "accelerators"), indirect=True)
@pytest.mark.parametrize("name", ("pointwise", "dense", "depthwise, strided"))
@pytest.mark.parametrize("shared", (0, 1), ids=("images", "kernel"))
def test_one_argument_for_all_cases(name, shared, forms, x64):
    function, *shapes = FUNCTIONS[name]
    axes = [None if i == shared else _place(len(shape)) for i, shape in enumerate(shapes)]
    if shared == 0:
        axes = [None, {2: 1, 3: 2, 4: 3}[len(shapes[1])]]  # of a kernel beside its last axis
    place = lambda a, axis: a[0] if axis is None else jnp.moveaxis(a, 0, axis)
    at, way = ([*map(place, arrays, axes)] for arrays in _arrays(name, 3))
    front = jax.vmap(function, [axis if axis is None else 0 for axis in axes])
    plain = lambda arrays: [
        a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(arrays, axes, strict=True)
    ]
    loss = lambda f, arrays: jnp.square(jnp.tanh(f(*arrays))).sum()
    tangent = lambda f, at, way: jax.jvp(jax.grad(f), (at,), (way,))
    with beside_channels():
        found = jax.jit(partial(tangent, partial(loss, jax.vmap(function, axes, 3))))(at, way)
    _close(found, tangent(lambda arrays: loss(front, plain(arrays)), at, way))


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "dense"])  # whose kernel is larger than images
def test_no_image_is_transposed(name, x64):
    """With the cases beside the channels already, none is moved for a value or a gradient."""
    function, *shapes = FUNCTIONS[name]
    at, _ = _moved(_arrays(name, 3), True)
    with beside_channels():
        many = _beside(function, shapes)
        text = str(jax.make_jaxpr(jax.grad(lambda args: jnp.square(many(*args)).sum()))(at))
    moved = re.findall(r":f64\[([\d,]+)\] = transpose", text)
    assert not [shape for shape in moved if np.prod([*map(int, shape.split(","))]) >= 3 * np.prod(X) // 4]


def _lowered(function, platform, *args):
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.smoke
@pytest.mark.parametrize(("platform", "barriers"), (("cpu", 0), ("cuda", 3), ("rocm", 3), ("tpu", 0)))
def test_products_stand_behind_a_barrier_on_gpus(platform, barriers):
    """One in front of each product: of the value, and of both gradients."""
    both = jax.value_and_grad(lambda x, k: jnp.square(pointwise_convolution(x, k)).sum(), (0, 1))
    text = _lowered(both, platform, jnp.ones(X), jnp.ones((3, 4)))
    assert text.count("stablehlo.dot_general") == 3
    assert text.count("stablehlo.optimization_barrier") == barriers
    behind = text.split("stablehlo.dot_general")[:-1]
    assert all(("optimization_barrier" in part) == (barriers > 0) for part in behind)
