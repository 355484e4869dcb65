"""The code in the documents runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parent.parent


def blocks(path):
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(), re.S)


def test_own_operations_and_spaces(tmp_path):
    names = {}
    for block in blocks("docs/spaces.md"):
        exec(compile(block, "docs/spaces.md", "exec"), names)
    jn, masked = names["jn"], names["masked"]
    assert masked.mask("normal").sum() == 14 * 8 + 5  # five edges end in the last node
    images, labels = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 10
    images += labels.astype(np.uint8)[:, None, None, None]
    np.savez(tmp_path / "mine.npz", image=images, label=labels)
    result = names["search_folder"](str(tmp_path / "mine.npz"), tmp_path / "run")
    chosen = result.genotype.edges("cell")
    assert [edge[1:] for edge in chosen] == [(0, 1), (0, 2), (1, 2)]
    assert {edge.op for edge in chosen} <= set(names["two_stages"].op_names)
    assert result.genotype.concat("cell") == (2,)
    assert jn.cost.total(jn.cost.genotype_cost(result.genotype, names["two_stages"])).parameters > 0


def test_the_readme_from_python():
    """With a smaller space and images of its size; nothing else is changed."""
    first, second, third = blocks("README.md")
    small = first.replace("steps=500", "steps=4, hypergradient=jn.first_order()").replace(
        "darts(channels=16, layers=8)", "s2(channels=2, layers=3, image=(8, 8, 3))"
    )
    assert small != first
    batch = lambda seed: jax.random.normal(jax.random.key(seed), (4, 8, 8, 3))
    labels = jnp.arange(4, dtype=jnp.int32)
    names = {"images": batch(0), "labels": labels, "other_images": batch(1), "other_labels": labels}
    exec(compile(small, "README.md", "exec"), names)
    assert np.isfinite(names["metrics"]["valid"]["loss"])
    rows = [eval(line.split("#")[0], names) for line in second.strip().splitlines()]
    assert all(isinstance(row, names["jn"].Strategy) for row in rows)
    exec(compile(third, "README.md", "exec"), names)
    assert names["states"].bilevel.step.shape == (8,)


def test_retraining(tmp_path):
    """With the smallest network of the space, skips everywhere, and few images; the recipe is shortened."""
    names = {}
    for block in blocks("docs/evaluation.md"):
        exec(compile(block.replace("(36, 20,", "(2, 3,"), "docs/evaluation.md", "exec"), names)
    jn, digits = names["jn"], names["jn"].data.load("digits")
    few = replace(digits, train=jn.Batch(*(leaf[:16] for leaf in digits.train)))
    recipe = replace(names["recipe"], epochs=1, batch=8, auxiliary=0.0)
    cell = [("skip_connect", 0, node) for node in (2, 3, 4, 5)]
    skips = jn.genotype.genotype("darts", {"normal": cell, "reduce": cell}, dict.fromkeys(("normal", "reduce"), (2, 5)))
    assert 0 <= names["retrain"](skips, few, recipe, tmp_path / "run") <= 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["config"]["recipe"]["drop_path"] == 0.3
