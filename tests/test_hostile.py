"""Input that means harm or is broken: files, texts, names and settings end in a value or in an error that says why."""

import io
import json
import os
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jaxnas import archive, folder, memory, places
from jaxnas.cli import main
from jaxnas.data import load
from jaxnas.drawing import draw_cells
from jaxnas.evaluation.shared_weights import one_hot_gates
from jaxnas.spaces.darts import darts
from jaxnas.spaces.genotype import Genotype, from_darts, from_json, from_nas_bench_201, genotype, read
from jaxnas.spaces.plan import plan
from jaxnas.spaces.space import Layer

SPACE = darts(4, 3, image=(8, 8, 3))
quickly = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))

# ---------------------------------------------------------------- texts

HEAVY = {
    "brackets": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "parentheses": "Genotype(normal=" + "(" * 100_000,
    "signs": "Genotype(normal=" + "-" * 40_000 + "1, normal_concat=1, reduce=2, reduce_concat=3)",
    "attributes": "Genotype" + ".a" * 20_000,
    "assignments": "a=" * 100_000,
    "a long tuple": "(" + "a," * 200_000 + ")",
    "sums": "Genotype(normal=" + "1+" * 20_000 + "1j, normal_concat=1, reduce=2, reduce_concat=3)",
    "a long range": "Genotype(normal=[], normal_concat=range(0, 10**9), reduce=None, reduce_concat=[])",
    "nodes": "|a~0|+" * 100_000,
    "no nodes": "|" * 100_000,
    "one operation": "|" + "a" * 100_000,
    "a long number": '{"space": "a", "cells": {"c": [["a", 0, ' + "9" * 5000 + ']]}, "outputs": {"c": [1]}}',
    "infinity": '{"space": "a", "cells": {"c": [["a", 0, 1e400]]}, "outputs": {"c": [1]}}',
    "a surrogate": "\ud800",
    "a call": "Genotype(normal=__import__('os').system('touch harm'), normal_concat=1, reduce=2, reduce_concat=3)",
    "a comprehension": "Genotype(normal=[i for i in ()], normal_concat=[], reduce=[], reduce_concat=[])",
}


@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_heavy_texts_are_refused_in_seconds(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    for parse in (from_json, from_darts, from_nas_bench_201, read):
        with pytest.raises(ValueError):
            parse(text)
    assert time.process_time() - began < 10
    assert not any(tmp_path.iterdir())


def test_markup_in_an_error_is_text(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jaxnas", "search", "--strategy", "[/red]"])
    with pytest.raises(SystemExit):
        main()
    assert "no strategy is called '[/red]'" in capsys.readouterr().err


@pytest.mark.parametrize("op", ["$", "$\\frac{", "_^{}", "a\nb"])
def test_cells_with_odd_names_are_drawn(op):
    found = genotype("s", {"c": [(op, 0, 2), (op, 1, 2)]}, {"c": [2]})
    draw_cells(found).savefig(io.BytesIO(), format="png")


# ---------------------------------------------------------------- spaces and genotypes of them

small = st.integers(-2, 6)


@quickly
@given(st.lists(st.tuples(small, small), max_size=6), st.lists(small, max_size=3), st.integers(-1, 4), st.data())
def test_any_space_is_planned_or_refused(edges, outputs, inputs, data):
    layers = st.builds(Layer, st.sampled_from(["normal", "reduce", "x"]), st.integers(-1, 8), st.integers(0, 3))
    skeleton = tuple(data.draw(st.lists(layers, max_size=4)))
    image = tuple(data.draw(st.tuples(*[st.integers(-1, 16)] * 3)))
    try:
        found = SPACE.replace(edges=tuple(edges), outputs=tuple(outputs), inputs=inputs, skeleton=skeleton, image=image)
    except ValueError as error:
        assert str(error)
        return
    assert plan(found)


def test_a_good_space_is_among_them():
    assert plan(SPACE.replace(edges=((0, 2), (1, 3)), outputs=(2, 3)))


@quickly
@given(st.lists(st.tuples(st.sampled_from([*SPACE.op_names, "x"]), small, small), min_size=1, max_size=4))
def test_gates_of_any_genotype_or_a_reason(rows):
    try:
        found = genotype("darts", dict.fromkeys(SPACE.cells, rows), {cell: [2] for cell in SPACE.cells})
        gates = one_hot_gates(found, SPACE)
    except ValueError as error:
        assert str(error)
        return
    assert isinstance(found, Genotype) and gates["normal"].ops.sum() == len(set(rows))


# ---------------------------------------------------------------- data files

GOOD = {"image": np.zeros((10, 4, 4, 1), np.uint8), "label": np.arange(10)}


def npy(descr="|u1", shape="(10, 4, 4, 1)", body=b"\0" * 160, order="False"):
    """An array whose header claims what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def packed(path, compress=zipfile.ZIP_DEFLATED, **entries):
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return path


LABEL = npy("<i8", "(10,)", np.arange(10, dtype="<i8").tobytes())
CLAIMS = {
    "terabytes": npy(shape="(1000000, 1000, 1000, 3)"),
    "more than can be counted": npy(shape=f"({2**62}, {2**62}, 4, 1)"),
    "less than there is": npy(shape="(1, 4, 4, 1)"),
    "negative sizes": npy(shape="(-10, -4, 4, 1)"),
    "a huge number type": npy(descr="|V1000000000"),
    "objects": npy(descr="|O", body=b"\x80\x04K\x01."),
    "records of objects": npy(descr=[("a", "|O")]),
    "no size at all": npy(descr="|S0"),
    "a text of sizes": npy(shape="'10'"),
    "a call for a size": npy(shape="__import__('os').abort()"),
    "a nest": npy(shape="(" * 3000 + ")" * 3000),
    "another version": b"\x93NUMPY\x09\x09" + npy()[8:],
    "nothing": b"",
}


@pytest.mark.parametrize("content", CLAIMS.values(), ids=CLAIMS)
def test_claims_are_checked_before_memory_is_taken(tmp_path, content):
    packed(tmp_path / "own.npz", image=content, label=LABEL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"cannot be read .*Pickled objects are never loaded"):
        load("own.npz", tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_the_writer_of_claims_can_also_tell_the_truth(tmp_path):
    for compress in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed(tmp_path / "own.npz", compress, image=npy(), label=LABEL)
        assert len(load("own.npz", tmp_path).train.label) == 8
    packed(tmp_path / "own.npz", image=npy(order="True"), label=LABEL)
    assert load("own.npz", tmp_path).train.image.shape == (8, 4, 4, 1)


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """100 MB of zeros in 100 kB, on a machine with 50 MB."""
    monkeypatch.setattr(archive, "free_here", lambda: 50 * 10**6)
    image = np.zeros((10**5, 10, 10, 10), np.uint8)
    np.savez_compressed(tmp_path / "own.npz", image=image, label=np.zeros(10**5, np.int32))
    with pytest.raises(ValueError, match="its arrays need 100 MB of memory, and 50 MB are free"):
        load("own.npz", tmp_path)


def test_a_directory_that_lies_about_sizes(tmp_path):
    """The size in the directory of the zip file agrees with the header of the array, and not with what is packed."""
    path = packed(tmp_path / "own.npz", image=npy(shape="(1000000, 10, 10, 10)"), label=LABEL)
    content, size = path.read_bytes(), len(npy(shape="(1000000, 10, 10, 10)"))
    claimed = size - 160 + 10**9
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", claimed)))
    with pytest.raises(ValueError, match="which cannot be"):
        load("own.npz", tmp_path)


def test_a_directory_in_front_of_the_file(tmp_path):
    """It names places from its own beginning, which here would be before that of the file."""
    path = packed(tmp_path / "own.npz", image=npy(), label=LABEL)
    content = bytearray(path.read_bytes())
    offset = int.from_bytes(content[-6:-2], "little")
    content[-6:-2] = (offset + 1000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ValueError):
        load("own.npz", tmp_path)


def test_names_that_lead_elsewhere_are_left_alone(tmp_path):
    packed(tmp_path / "own.npz", **{"../../harm": npy(), "/harm": npy(), "image": npy(), "label": LABEL})
    assert load("own.npz", tmp_path).classes == 10
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]


@quickly
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "own.npz"
    np.savez_compressed(path, **GOOD)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        found = load(str(path))
    except ValueError as error:
        assert str(error)
        return
    assert found.train.image.shape == (8, 4, 4, 1) and found.train.image.max() == 0


# ---------------------------------------------------------------- settings, records, folders

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@quickly
@given(before=st.dictionaries(st.text(max_size=5), values, max_size=4), name=st.text(max_size=5), value=values)
def test_a_run_goes_on_with_its_own_settings_only(tmp_path_factory, before, name, value):
    here = tmp_path_factory.mktemp("run")
    folder.claim(here, before)
    folder.check_same(here, before)
    if json.dumps(before.get(name)) != json.dumps(value):
        with pytest.raises(ValueError, match="was started otherwise"):
            folder.check_same(here, {**before, name: value})


@quickly
@given(config=st.binary(max_size=30), records=st.binary(max_size=60))
@example(config=b"[" * 10**5, records=b'{"epoch": 1}\n' + b"[" * 10**5)
@example(config=b"5", records=b'{"epoch": 1}\n{"epoch": 3}')
@example(config=b'{"a": NaN}', records=b'\xff\n{"epoch": 1}')
def test_broken_files_of_a_run(tmp_path_factory, config, records):
    here = tmp_path_factory.mktemp("run")
    (here / "config.json").write_bytes(config)
    (here / "metrics.jsonl").write_bytes(records)
    with pytest.raises(ValueError, match=r"damaged|settings of a run|otherwise"):
        folder.check_same(here, {"a": 1.0})
    assert [record["epoch"] for record in folder.read_records(here)] in ([], [1])


@given(st.text(max_size=8) | st.sampled_from(["..", "../x", "/x", "a/b", "", ".", "a\\b", "x/", "a\0"]))
def test_a_name_is_a_folder_in_its_folder_or_refused(name):
    try:
        found = places.within(places.Path("/runs"), name)
    except ValueError as error:
        assert "plain name" in str(error)
        return
    assert os.path.normpath(found) == str(found) and found.parent == folder.Path("/runs")


# ---------------------------------------------------------------- memory

MB = 10**6


def test_what_a_run_needs_is_told(monkeypatch):
    images = {"a": np.zeros(2 * MB, np.uint8)}
    found = memory.need({"argument": 5 * MB, "output": 3 * MB, "temp": 70 * MB}, images)
    assert found == (2 * MB, 3 * MB, 70 * MB) and found.total == 75 * MB
    line, warning = memory.told(found, memory.Room(100 * MB), 64)
    assert line == "memory: 75 MB (a step 70 MB, images 2 MB, state 3 MB) of 100 MB that are free" and not warning
    warning = memory.told(found, memory.Room(60 * MB), 64)[1]
    assert "may not fit" in warning and "--batch 32" in warning and "--channels" in warning and "layouts" in warning
    with pytest.raises(MemoryError, match="the device has 74 MB in all"):
        memory.told(found, memory.Room(50 * MB, 74 * MB), 64)
    assert memory.told(found, memory.Room(None), 1)[1] == ""
    half = memory.need({"argument": 4 * MB, "temp": 35 * MB}, images, devices=2)
    assert half == (1 * MB, 3 * MB, 35 * MB) and memory.told(half, memory.Room(None), 64, 2)[0].endswith("2 devices")
    assert "--fraction" in memory.knob(memory.Need(9, 1, 2), 8) and "--depth" in memory.knob(memory.Need(1, 9, 2), 8)
    assert [memory.size(n) for n in (999, 1500, 23 * MB, 10**13)] == ["999 bytes", "1.5 kB", "23 MB", "10,000 GB"]


def test_room_of_a_device_and_of_this_machine(tmp_path, monkeypatch):
    class Device:
        platform = "gpu"

        def __init__(self, stats):
            self.memory_stats = lambda: stats

    assert memory.room(Device({"bytes_limit": 9, "bytes_in_use": 4})) == (5, 9)
    assert memory.room(Device(None)) == (None, None)
    here = memory.free_here()
    assert here is None or 10**7 < here < 10**14
    for name, number in (("limit", "5000"), ("used", "2000"), ("none", "max")):
        (tmp_path / name).write_text(number + "\n")
    path = lambda *names: tuple(str(tmp_path / name) for name in names)
    monkeypatch.setattr(memory, "_CGROUPS", (path("limit", "used"), path("none", "used"), path("absent", "used")))
    assert memory.free_here() == 3000
