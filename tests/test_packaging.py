"""The wheel and the source distribution, looked into; the texts beside them."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import python

import jaxnas

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Both distributions, built from a copy of what they need; nothing is fetched."""
    pytest.importorskip("build")
    pytest.importorskip("setuptools", "77")
    place = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "jaxnas", place / "jaxnas", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__", "fixtures"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff"):
        shutil.copy(ROOT / name, place)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place / "dist"


def test_the_wheel_holds_the_package_its_data_and_its_types(built):
    (path,) = built.glob("*.whl")
    assert path.name == f"jaxnas-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"jaxnas-{VERSION}.dist-info/METADATA").decode()
        entries = wheel.read(f"jaxnas-{VERSION}.dist-info/entry_points.txt").decode()
    modules = {path.relative_to(ROOT).as_posix() for path in Path(jaxnas.__file__).parent.rglob("*.py")}
    data = {"jaxnas/py.typed", "jaxnas/datasets/digits.npz", "jaxnas/datasets/README.md"}
    assert {name for name in names if ".dist-info/" not in name} == modules | data
    assert f"jaxnas-{VERSION}.dist-info/licenses/LICENSE" in names
    assert "jaxnas = jaxnas.cli:main" in entries
    assert "License-Expression: Apache-2.0" in metadata and "Provides-Extra: tensorboard" in metadata


def test_the_source_distribution_builds_the_same(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert {"jaxnas/py.typed", "jaxnas/datasets/digits.npz", "jaxnas/cli.py"} <= names


def test_versions_agree():
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_the_command_tells_its_version():
    done = python("-m", "jaxnas", "--version")
    assert done.returncode == 0 and done.stdout == f"jaxnas {VERSION}\n" and not done.stderr


def test_the_citation_is_valid():
    """Against what the format asks for: https://citation-file-format.github.io, 1.2.0."""
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["cff-version"] == "1.2.0" and found["authors"] == [{"name": "The jaxnas authors"}]
