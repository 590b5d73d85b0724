"""Are calls ordered with the streams that callers name, and branches of graphs with each other?

By the stand-in for the driver (`fake_cuda`): work on a stream waits until somebody waits for it, so
what is not ordered by an event is seen too early, and the nodes of a graph run in the order that
its dependencies allow and a test picks.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gx
from graphc.codegen.passes.beside import laid_out
from graphc.runtime.cuda import device as cuda_device
from graphc.runtime.cuda import driver as cuda_driver
from graphc.runtime.cuda import frame as cuda_frame
from graphc.runtime.cuda import launch as cuda_launch
from graphc.runtime.cuda import stream as cuda_stream
from graphc.runtime.cuda.branches import dependencies, longest_chain
from tests.codegen import cuda_host
from tests.cuda_emulator import emulator

pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
from tests.runtime import fake_cuda

PLAIN = gx.Options(cache=False)


def doubled() -> Any:
    x = gx.symbol("x", (4,), "float32")
    return gx.compile([x], x * 2, target="cuda", options=PLAIN)


class Seen:
    """What a kernel of the caller's finds in an array when its turn on a stream comes."""

    def __init__(self, gpu: fake_cuda.FakeDriver, stream: int, array: Any) -> None:
        self.values: Any = None
        address = array.__cuda_array_interface__["data"][0]

        def read() -> None:
            nbytes = int(np.prod(array.shape)) * array.dtype.itemsize
            self.values = gpu._bytes(address, nbytes).view(array.dtype).copy()

        gpu._put(stream, read)


# -- streams of the caller's -----------------------------------------------------------------------


@emulator.required
@pytest.mark.parametrize("how", ["keyword", "block", "protocol", "jit"])
def test_a_call_is_ordered_with_the_callers_stream(how: str, gpu: fake_cuda.FakeDriver) -> None:
    stream = gpu.new_stream()
    array = gpu.array(np.zeros(4, "f4"))
    gpu._put(stream, lambda: array.buffer.array.fill(5))  # somebody's kernel that makes it
    function = doubled()
    if how == "keyword":
        result = function(array, stream=stream)
    elif how == "jit":
        traced = gx.jit(lambda x: x * 2, target="cuda", options=PLAIN)
        with gx.cuda_stream(stream):
            result = traced(array)
    else:
        named = type("Stream", (), {"__cuda_stream__": lambda self: (0, stream)})()
        with gx.cuda_stream(named if how == "protocol" else stream):
            result = function(array)
    assert gpu.launches == 0 and not gpu.copies  # nobody has waited
    seen = Seen(gpu, stream, result)
    gpu.streams[stream].drain()
    assert (seen.values == 10).all()


@emulator.required
def test_blocks_nest_and_end(gpu: fake_cuda.FakeDriver) -> None:
    function = doubled()
    streams = [gpu.new_stream(), gpu.new_stream()]
    array = np.ones(4, "f4")
    with gx.cuda_stream(streams[0]):
        with gx.cuda_stream(streams[1]):
            function(array)
            assert gpu.streams[streams[1]].put == 1 and gpu.streams[streams[0]].put == 0
            with gx.cuda_stream(None):
                function(array)
            assert gpu.streams[streams[1]].put == 1
        function(array)
        with pytest.raises(ValueError, match="axis 0 is 5"):
            function(np.ones(5, "f4"))  # what fails is ordered as well
    assert [gpu.streams[s].put for s in streams] == [2, 1]
    function(array)
    assert [gpu.streams[s].put for s in streams] == [2, 1]
    assert gpu.calls["cuStreamCreate"] == 2 + 1 + cuda_device.BRANCHES


def test_what_is_no_stream_is_refused() -> None:
    for wrong in ("0", 1.0, True, object()):
        with pytest.raises(TypeError, match="a stream is its handle"), gx.cuda_stream(wrong):
            pass
    with pytest.raises(ValueError, match="not negative, got -1"), gx.cuda_stream(-1):
        pass
    newer = type("Stream", (), {"__cuda_stream__": lambda self: (7, 3)})()
    with pytest.raises(ValueError, match="of version 7; 0 is known"), gx.cuda_stream(newer):
        pass
    assert cuda_stream.callers_stream() is None
    assert cuda_stream.handle_of(np.int64(0)) == cuda_stream.LEGACY_STREAM


@emulator.required
def test_an_input_may_be_called_stream(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("stream", (2,), "float32")
    function = gx.compile([x], x + 1, target="cuda", options=PLAIN)
    assert (function(stream=np.zeros(2, "f4")) == 1).all()


@emulator.required
def test_streams_have_arenas_of_their_own(gpu: fake_cuda.FakeDriver) -> None:
    """Two streams whose work is done in any order share nothing but what is handed on."""
    x = gx.symbol("x", ("n", 8), "float32")
    y = gx.softmax(x @ x.T, axis=1) @ x
    function = gx.compile([x], y, target="cuda", options=PLAIN)
    wanted = gx.compile([x], y)
    streams = [gpu.new_stream() for _ in range(3)]
    rows = [np.random.default_rng(i).normal(size=(6, 8)).astype("f4") for i in range(3)]
    given = [gpu.array(row) for row in rows]
    results = [gpu.array(row) for row in rows]
    for turn in range(4):  # graphs from the second one on
        for stream, array, result in zip(streams, given, results, strict=True):
            with gx.cuda_stream(stream):
                function(array, out=result)
        seen = [Seen(gpu, s, r) for s, r in zip(streams, results, strict=True)]
        for number in random.Random(turn).sample(range(3), 3):
            gpu.streams[streams[number]].drain()
        for row, each in zip(rows, seen, strict=True):
            np.testing.assert_allclose(each.values.reshape(6, 8), wanted(row), rtol=1e-5)
    assert len(cuda_device.device(0).lanes) == 4 and function.counts.graphs == 3


@emulator.required
def test_results_go_from_stream_to_stream(gpu: fake_cuda.FakeDriver) -> None:
    function = doubled()
    streams = [gpu.new_stream() for _ in range(2 * cuda_device.MOST_LANES)]
    array = gpu.array(np.ones(4, "f4"))
    result: Any = array
    for stream in streams:
        with gx.cuda_stream(stream):
            result = function(result)
    last = function(result)  # and on to no stream in particular
    assert (last.numpy() == 2.0 ** (len(streams) + 1)).all()
    assert len(cuda_device.device(0).lanes) == cuda_device.MOST_LANES + 1
    target = function(array)
    with gx.cuda_stream(streams[0]):
        other = function(target)  # reads it on one lane
    function(array, out=target)  # while another writes it
    function(target, out=target)
    assert (other.numpy() == 4).all() and (target.numpy() == 4).all()


@emulator.required
def test_memory_comes_back_after_what_the_caller_does_with_it(gpu: fake_cuda.FakeDriver) -> None:
    function = doubled()
    stream = gpu.new_stream()
    array = gpu.array(np.ones(4, "f4"))
    for _ in range(3):
        with gx.cuda_stream(stream):
            result = function(array)
        seen = Seen(gpu, stream, result)
        del result
        function.synchronize()  # frees nothing that the caller's stream still reads
        gc.collect()
        with gx.cuda_stream(stream):
            function(array)
        gpu.streams[stream].drain()
        assert (seen.values == 2).all()


@emulator.required
def test_memory_of_other_streams_is_found_when_there_is_no_more(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (1 << 22,), "uint8")
    function = gx.compile([x], x + np.uint8(1), target="cuda", options=PLAIN)
    array = gpu.array(np.zeros(1 << 22, "u1"))
    gpu.skips_kernels = True
    for _ in range(6):  # there is room for three, and each is dropped at once
        with gx.cuda_stream(gpu.new_stream()):
            function(array)
    assert gpu.calls["cuCtxSynchronize"]


@emulator.required
def test_a_producers_stream_and_the_callers_are_both_waited_for(
    gpu: fake_cuda.FakeDriver,
) -> None:
    function = doubled()
    streams = [gpu.new_stream(), gpu.new_stream()]
    array = gpu.array(np.zeros(4, "f4"))
    array.stream = streams[0]
    gpu._put(streams[0], lambda: array.buffer.array.fill(3))
    with gx.cuda_stream(streams[1]):
        result = function(array)
    seen = Seen(gpu, streams[1], result)
    gpu.streams[streams[1]].drain()
    assert (seen.values == 6).all()


@emulator.required
@pytest.mark.parametrize("call", ["cuStreamWaitEvent", "cuEventRecord", "cuStreamCreate"])
def test_an_order_that_cannot_be_made_is_an_error(call: str, gpu: fake_cuda.FakeDriver) -> None:
    function = doubled()
    array = np.ones(4, "f4")
    function(array)
    stream = gpu.new_stream()
    for nth in (1, 2, 3):
        gpu.fail(call, "INVALID_HANDLE", nth)
        out = np.full(4, 7, "f4")
        try:
            with gx.cuda_stream(stream):
                function(array, out=out)
        except cuda_driver.CudaError as error:
            assert call in str(error)
        gpu.fail(call, "UNKNOWN", times=0)
    with gx.cuda_stream(stream):
        assert (function(array) == 2).all()


# -- branches of a graph ---------------------------------------------------------------------------


def _scans() -> tuple[list[Any], list[Any], list[Any]]:
    """Loops that are one block each, and cannot be parts of one launch."""
    xs = [gx.symbol(f"x{i}", (3, 8), "float32") for i in range(3)]
    w = gx.symbol("w", (8, 8), "float32")
    ends = [gx.scan(lambda s, row: (gx.tanh(s @ w + row), s.sum()), x[0], x)[0] for x in xs]
    return [*xs, w], [*ends, ends[0] + ends[1] * ends[2]], [(3, 8)] * 3 + [(8, 8)]


def _sorts() -> tuple[list[Any], list[Any], list[Any]]:
    """Rows whose scratch is too large for the chip."""
    x, y = gx.symbol("x", (2, 2200), "float32"), gx.symbol("y", (3, 2100), "float32")
    first, second = gx.argsort(x, axis=1), gx.argsort(y, axis=1)
    return [x, y], [first, second, first[:, :2100] - second[:2]], [(2, 2200), (3, 2100)]


@emulator.required
@pytest.mark.parametrize("make", [_scans, _sorts])
def test_branches_compute_what_the_plan_does_in_any_order(
    make: Callable[[], Any], gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_cuda, "MEMORY_BYTES", 1 << 27)
    inputs, outputs, shapes = make()
    function = gx.compile(inputs, outputs, target="cuda", options=PLAIN)
    source = np.random.default_rng(1)
    arrays = [source.normal(size=shape).astype("f4") for shape in shapes]
    wanted = gx.compile(inputs, outputs)(*arrays)
    orders: Sequence[Callable[[int], int]] = (
        lambda count: 0,
        lambda count: count - 1,
        random.Random(3).randrange,
    )
    function(*arrays)
    for order in orders:
        gpu.pick = order
        for got, want in zip(function(*arrays), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    counts = function.counts
    assert counts.graphs == 1 and counts.branches > 1
    assert counts.longest_chain < counts.graph_launches
    assert f"{counts.branches} branches" in str(function.report())


@emulator.required
def test_an_order_that_is_left_out_is_seen(
    gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each launch in turn is said to touch nothing: it runs too early or too late, and that shows.
    """
    monkeypatch.setattr(cuda_launch, "MOST_GRAPHS", 1000)
    inputs, outputs, shapes = _scans()
    source = np.random.default_rng(1)
    values = [[source.normal(size=shape).astype("f4") for shape in shapes] for _ in range(3)]
    wanted = [gx.compile(inputs, outputs)(*arrays) for arrays in values]
    whole = cuda_frame.Frame.spans

    def is_right(blind: str) -> bool:
        monkeypatch.setattr(
            cuda_frame.Frame,
            "spans",
            lambda self, step: iter(()) if step.kernel == blind else whole(self, step),
        )
        function = gx.compile(inputs, outputs, target="cuda", options=PLAIN)
        picks = (lambda count: 0, lambda count: 0, lambda count: count - 1)
        for pick, arrays, wants in zip(picks, values, wanted, strict=True):
            gpu.pick = pick
            pairs = zip(function(*arrays), wants, strict=True)
            if not all(np.allclose(one, other, rtol=1e-4) for one, other in pairs):
                return False
        return True

    assert is_right("none of them")
    program = gx.emit(inputs, outputs, target="cuda")
    assert [kernel.name for kernel in program.kernels if is_right(kernel.name)] == []


@emulator.required
def test_what_a_launch_is_not_said_to_touch_is_hidden_from_it() -> None:
    """The emulator's host finds a step that says too little."""
    x = gx.symbol("x", (6, 8), "float32")
    outputs = [gx.sort(gx.softmax(x @ x.T, axis=1), axis=0)]
    program = gx.emit([x], outputs, target="cuda")
    arrays = [np.random.default_rng(0).normal(size=(6, 8)).astype("f4")]
    wanted = gx.evaluate(outputs, {x: arrays[0]})[0]
    np.testing.assert_allclose(cuda_host.run(program, arrays).outputs[0], wanted, rtol=1e-4)
    found = 0
    for number, step in enumerate(program.plan.steps):
        for left_out in step.touches:
            if left_out.place.space == "input":
                continue
            found += 1
            fewer = tuple(each for each in step.touches if each is not left_out)
            steps = list(program.plan.steps)
            steps[number] = dataclasses.replace(step, touches=fewer)
            broken = copy.copy(program)
            broken.plan = dataclasses.replace(program.plan, steps=tuple(steps))
            try:
                got = cuda_host.run(broken, arrays).outputs[0]
            except emulator.EmulationError:
                continue
            assert not np.allclose(got, wanted, rtol=1e-4), left_out
    assert found > 3


@emulator.required
def test_a_graph_that_fails_at_any_point_leaves_no_stream_captured(
    gpu: fake_cuda.FakeDriver,
) -> None:
    inputs, outputs, shapes = _scans()
    function = gx.compile(inputs, outputs, target="cuda", options=PLAIN)
    arrays = [np.ones(shape, "f4") for shape in shapes]
    wanted = function(*arrays)
    for call in ("cuStreamWaitEvent", "cuEventRecord", "cuEventCreate", "cuLaunchKernel"):
        for nth in range(1, 7):
            function.__getattr__("variant")(()).loaded._graphs.refusal = ""
            gpu.fail(call, "UNKNOWN", nth)
            try:
                results = function(*arrays)
                assert all((a == b).all() for a, b in zip(results, wanted, strict=True))
            except RuntimeError as error:
                assert call in str(error)
            gpu.fail(call, "UNKNOWN", times=0)
            assert all(stream.capture is None for stream in gpu.streams.values())
            for known in list(gpu.events):
                assert gpu.events[known] is None or not isinstance(
                    gpu.events[known][0], fake_cuda._Capture
                )
    assert all((a == b).all() for a, b in zip(function(*arrays), wanted, strict=True))


SPANS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 6), st.booleans()), min_size=0, max_size=4
)


@given(st.lists(SPANS, max_size=14), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_whatever_conflicts_is_ordered(drawn: Any, most: int) -> None:
    spans = [[(start, start + size, writes) for start, size, writes in each] for each in drawn]
    needs = dependencies(spans)
    before = [closure(needs, number) for number in range(len(spans))]
    for later, mine in enumerate(spans):
        for earlier in range(later):
            conflict = any(
                a < d and c < b and (u or v)
                for a, b, u in mine
                for c, d, v in spans[earlier]
            )
            assert not conflict or earlier in before[later]
            assert conflict or earlier not in needs[later]  # nothing waits without a reason
    slots = laid_out(needs, most)
    assert all(slot.branch < most for slot in slots)
    last: dict[int, int] = {}
    on_streams: list[frozenset[int]] = []
    for number, slot in enumerate(slots):
        follows = {last[slot.branch]} if slot.branch in last else set()
        on_streams.append(frozenset(follows | set(slot.waits)))
        last[slot.branch] = number
        assert all(slots[other].is_awaited for other in slot.waits)
        assert needs[number] <= closure(on_streams, number)
    assert longest_chain(needs) <= len(spans)


def closure(needs: Sequence[frozenset[int]], number: int) -> set[int]:
    found: set[int] = set()
    waiting = list(needs[number])
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += needs[other]
    return found
