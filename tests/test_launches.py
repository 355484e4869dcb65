"""How launches, moves, bytes and cycles are read from the text that a compiler leaves."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks import hlo
from benchmarks.launches import Sent, count

WRITTEN = """HloModule written, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%moves (p: f32[64,32]) -> f32[32,64] {
  %p = f32[64,32]{1,0} parameter(0)
  ROOT %turned = f32[32,64]{1,0} transpose(%p), dimensions={1,0}
}

%reduces (q: f32[64,32]) -> f32[32] {
  %q = f32[64,32]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %reduced = f32[32]{0} reduce(%q, %zero), dimensions={0}, to_apply=%sum
}

%yes (x: f32[64,32]) -> f32[64,32] {
  %x = f32[64,32]{1,0} parameter(0)
  %one = f32[64,32]{1,0} negate(%x)
  ROOT %two = f32[64,32]{1,0} negate(%one)
}

%no (y: f32[64,32]) -> f32[64,32] {
  ROOT %y = f32[64,32]{1,0} parameter(0)
}

%wrapped (w: f32[64,32]) -> f32[8,32] {
  %w = f32[64,32]{1,0} parameter(0)
  ROOT %scattered = f32[8,32]{1,0} reduce-scatter(%w), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}, to_apply=%sum
}

%body (s: (s32[], f32[64,32])) -> (s32[], f32[64,32]) {
  %s = (s32[], /*index=1*/f32[64,32]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[64,32]{1,0:T(8,128)} get-tuple-element(%s), index=1
  %small = s32[]{:T(128)} copy(%i), backend_config={"estimated_cycles":"5"}
  %relaid = f32[64,32]{0,1:T(8,128)} copy(%v)
  %same = f32[64,32]{1,0:T(8,128)} copy(%v)
  %moved = f32[32,64]{1,0} fusion(%v), kind=kLoop, calls=%moves
  %total = f32[32]{0} fusion(%v), kind=kInput, calls=%reduces, backend_config={"estimated_cycles":"100"}
  %begun = f32[64,32]{1,0} all-reduce-start(%v), to_apply=%sum
  %done = f32[64,32]{1,0} all-reduce-done(%begun)
  %chosen = f32[64,32]{1,0} conditional(%i, %v, %v), branch_computations={%yes, %no}
  ROOT %out = (s32[], f32[64,32]{1,0}) tuple(%small, %chosen)
}

%more (c: (s32[], f32[64,32])) -> pred[] {
  %c = (s32[], f32[64,32]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%c), index=0
  ROOT %less = pred[] compare(%n, %n), direction=LT
}

ENTRY %main (given: (s32[], f32[64,32])) -> f32[64,32] {
  %given = (s32[], f32[64,32]{1,0}) parameter(0)
  %loop = (s32[], f32[64,32]) while(%given), condition=%more, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %again = (s32[], f32[64,32]{1,0}) while(%loop), condition=%more, body=%body
  %image = f32[64,32]{1,0} get-tuple-element(%again), index=1
  %sent = ((f32[64,32]{1,0}), f32[8,32]{1,0}) async-start(%image), calls=%wrapped
  %got = f32[8,32]{1,0} async-done(%sent)
  %all = (f32[8,32]{1,0}, f32[64,32]{1,0}) all-gather-start(%got), dimensions={0}
  %whole = f32[64,32]{1,0} all-gather-done(%all)
  %called = (f32[64,32]{1,0}, u8[16]{0}) custom-call(%image), custom_call_target="__cudnn$convForward"
  ROOT %first = f32[64,32]{1,0} get-tuple-element(%called), index=0
}
"""
IMAGE = 64 * 32 * 4  # bytes of f32[64,32]


@pytest.fixture(scope="module")
def written():
    return count(hlo.read(WRITTEN), large=IMAGE)


def test_loops_multiply_conditionals_average_and_bookkeeping_is_free(written):
    """Eight runs of the body: seven that the compiler knows, one for the loop that it does not, with its condition."""
    each = {"transpose": 16, "copy": 16, "reduction": 8, "all-reduce": 8, "negate": 8}  # 2 negations or none: 1 each
    once = {"compare": 1, "reduce-scatter": 1, "all-gather": 1, "__cudnn$convForward": 1}
    assert written.kinds == each | once and written.total == 60
    assert written.loops == {"known": 1, "unknown": 1} and written.conditionals == 2


def test_moves_of_whole_activations_are_counted_apart(written):
    """A new order in memory is a transpose, by a copy or inside a fusion; the counter of the loop is too small."""
    assert written.transposes == 16 and written.copies == 8
    small = count(hlo.read(WRITTEN), large=IMAGE + 1)
    assert small.transposes == small.copies == 0 and small.kinds == written.kinds


def test_collectives_have_the_bytes_that_a_device_sends_or_gets(written):
    assert written.collectives == {
        "all-reduce": Sent(8, 8 * IMAGE),
        "reduce-scatter": Sent(1, IMAGE),
        "all-gather": Sent(1, IMAGE),
    }


def test_estimated_cycles_are_summed_over_loops(written):
    assert written.cycles == 8 * 105
    assert count(hlo.read(WRITTEN.replace("estimated_cycles", "other")), large=1).cycles is None


@pytest.mark.parametrize(
    ("type", "bytes"),
    [
        ("f32[8,128]{1,0:T(8,128)S(1)}", 4096),
        ("(s32[], /*index=1*/bf16[2,3]{1,0}, pred[5]{0})", 21),
        ("f8e4m3fn[10]{0}", 10),
        ("s4[16]{0}", 8),
        ("token[]", 0),
        ("()", 0),
    ],
)
def test_bytes_of_a_type(type, bytes):
    assert hlo.size(type) == bytes


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no computation is marked ENTRY"):
        hlo.read("module @jit_f { }")


def compiled(function, *shapes):
    return hlo.read(jax.jit(function).lower(*shapes).compile().as_text())


def test_a_compiled_loop_counts_its_body_as_often_as_it_runs():
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)

    def launches(length):
        body = lambda c, _: (jnp.sin(c @ c), None)
        return count(compiled(lambda x: lax.scan(body, x, None, length=length)[0], x), large=1)

    few, many, most = (launches(length) for length in (3, 5, 9))
    each = (many.total - few.total) / 2
    assert each >= 1 and most.total - many.total == 4 * each
    assert few.loops == {"known": 1, "unknown": 0}


def test_a_compiled_loop_of_unknown_length_is_reported():
    run = lambda x, n: lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))
    x, number = jax.ShapeDtypeStruct((64,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    assert count(compiled(run, x, number), large=1).loops == {"known": 0, "unknown": 1}


def test_a_compiled_sum_over_devices_has_its_bytes():
    mesh = Mesh(jax.devices()[:8], ("data",))
    run = jax.shard_map(lambda x: lax.psum(x, "data"), mesh=mesh, in_specs=P("data"), out_specs=P())
    found = count(compiled(run, jax.ShapeDtypeStruct((64, 32), jnp.float32)), large=1)
    assert found.collectives == {"all-reduce": Sent(1, IMAGE / 8)}
