"""Recipes against the official codes epoch by epoch, against torch step by step, and where they do not fit."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxnas.cli import app
from jaxnas.evaluation import recipes

FOUND = json.loads((Path(__file__).parent / "fixtures" / "E_schedules.json").read_text())


@pytest.mark.parametrize(
    "recipe, official",
    [
        (recipes.cifar(), FOUND["cosine_lr"]["eval_cifar_600(0.025->0.0)"]),
        (recipes.imagenet(), FOUND["step_lr_imagenet_DARTS(0.1*0.97^epoch,250)"]),
        (recipes.imagenet_linear(), FOUND["PCDARTS_imagenet_linear(0.5,250)_with_5_epoch_warmup(batch>256)"]),
    ],
    ids=lambda value: value.name if isinstance(value, recipes.Recipe) else "",
)
def test_every_rate_is_the_official_one(recipe, official, x64):
    np.testing.assert_allclose(recipes.rates(recipe)(np.arange(recipe.epochs)), official, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name, rate", [("DARTS", 0.2), ("PCDARTS/PDARTS", 0.3)])
def test_every_drop_path_rate_is_the_official_one(name, rate, x64):
    official = FOUND["drop_path_prob"][f"{name}_eval_cifar({rate}*epoch/600)"]
    recipe = replace(recipes.cifar(), drop_path=rate)
    np.testing.assert_allclose(recipes.drop_rate(recipe, np.arange(600)), official, rtol=1e-12)


@pytest.mark.parametrize("recipe", [recipes.cifar(), recipes.nas_bench_201()], ids=lambda recipe: recipe.name)
def test_steps_of_the_optimizer_are_those_of_torch(recipe, x64):
    """Three steps in two epochs: the first two are clipped by cifar(); momentum remembers them in the third."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=7), [rng.normal(size=7) * scale for scale in (9.0, 4.0, 0.1)]
    tx, weights = recipes.optimizer(replace(recipe, epochs=5), 2), jnp.asarray(start)
    state, theirs = tx.init(weights), torch.nn.Parameter(torch.tensor(start))
    options = {"momentum": 0.9, "weight_decay": recipe.weight_decay, "nesterov": recipe.nesterov}
    sgd = torch.optim.SGD([theirs], recipe.rate, **options)
    for i, gradient in enumerate(gradients):
        sgd.param_groups[0]["lr"] = recipe.rate * (1 + np.cos(np.pi * (i // 2) / 5)) / 2
        theirs.grad = torch.tensor(gradient)
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_([theirs], recipe.clip)
        sgd.step()
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(jnp.asarray(gradient), state, weights)
        weights = weights + updates
    np.testing.assert_allclose(weights, theirs.detach().numpy(), rtol=1e-9)


def test_a_second_head_where_there_is_none_is_refused(tmp_path):
    cell = "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"
    done = CliRunner().invoke(app, ["evaluate", cell, "--recipe", "cifar", "--out", str(tmp_path / "run")])
    assert isinstance(done.exception, ValueError) and "choose --recipe nas-bench-201 or small" in str(done.exception)
    assert not (tmp_path / "run").exists()
