"""What does a Function on a GPU say to what it cannot take?  A clear error, and nothing half-done.

With the stand-in for the driver; `test_cuda_runtime.py` has the failures of the driver itself.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.runtime.cuda import device as cuda_device
from tests.cuda_emulator import emulator

pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
from tests.runtime import fake_cuda

pytestmark = emulator.required

PLAIN = gx.Options(cache=False)


def plus_one(shape: Any = (4,), dtype: str = "float32") -> Any:
    x = gx.symbol("x", shape, dtype)
    return gx.compile([x], x + 1, target="cuda", options=PLAIN)


class Given:
    """An array that says of itself what a test wants."""

    def __init__(self, array: fake_cuda.FakeArray, **said: Any) -> None:
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **said}


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "the other byte order": ({"typestr": ">f4"}, TypeError, "byte order"),
    "complex numbers": ({"typestr": "<c8"}, TypeError, "complex64 is not supported"),
    "records": ({"typestr": "|V4"}, TypeError, "void32 is not supported"),
    "no dtype": ({"typestr": "float?"}, TypeError, "typestr"),
    "strides of another rank": ({"strides": (4, 4)}, ValueError, "2 strides for 1 ax"),
    "strides between elements": ({"strides": (6,)}, ValueError, "multiples of 4"),
    "a negative extent": ({"shape": (-4,)}, ValueError, "negative"),
    "no address": ({"data": (0, False)}, ValueError, "no address"),
    "no data": ({"data": None}, TypeError, "__cuda_array_interface__"),
    "another rank": ({"shape": (2, 2), "strides": None}, ValueError, "argument 1, x"),
    "another extent": ({"shape": (3,), "strides": None}, ValueError, "axis 0 is 3, not 4"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_an_array_says_of_itself_is_checked(what: str, gpu: fake_cuda.FakeDriver) -> None:
    said, kind, text = WRONG[what]
    function = plus_one()
    array = gpu.array(np.zeros(4, "f4"))
    with pytest.raises(kind) as error:
        function(Given(array, **said))
    assert text in str(error.value) and "f()" in str(error.value), error.value
    with pytest.raises(kind):
        function(np.zeros(4, "f4"), out=Given(array, **said))
    assert gpu.launches == 0 and (array.numpy() == 0).all()
    assert (function(array).numpy() == 1).all()


def test_memory_that_is_there_no_more(gpu: fake_cuda.FakeDriver) -> None:
    function = plus_one()
    array = gpu.array(np.zeros(4, "f4"))
    del gpu.live[array.buffer.address]
    with pytest.raises(ValueError, match=r"(?s)argument 1, x.*no memory of a GPU.*freed"):
        function(array)
    assert gpu.launches == 0


def test_an_array_that_has_moved_is_read_where_it_is(gpu: fake_cuda.FakeDriver) -> None:
    """A graph made of launches on the old place is not run."""
    x = gx.symbol("x", (3, 4), "float32")
    function = gx.compile([x], (gx.softmax(x @ x.T, axis=1) @ x), target="cuda", options=PLAIN)
    content = np.arange(12, dtype="f4").reshape(3, 4) / 8
    array, out = gpu.array(content), gpu.array(content)
    for turn in range(6):
        if turn % 3 == 0:
            moved = gpu.array(content + turn)
            array.buffer.bytes[:] = 0xFF
            array.buffer, array.content = moved.buffer, moved.content
        function(array, out=out)
        function.synchronize()
        wanted = gx.compile([x], (gx.softmax(x @ x.T, axis=1) @ x))(array.content)
        np.testing.assert_allclose(out.numpy(), wanted, rtol=1e-4)
    assert function.counts.graphs == 2


def test_outputs_may_not_share_memory(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = gx.compile([x], [x + 1, x + 2], target="cuda", options=PLAIN)
    base = np.zeros(8, "f4")
    array, whole = np.zeros(4, "f4"), gpu.array(base)
    halves = [Given(whole, shape=(4,), strides=None) for _ in range(2)]
    address, _ = whole.__cuda_array_interface__["data"]
    overlapping = Given(whole, shape=(4,), strides=None, data=(address + 8, False))
    for pair in ((whole, whole), (halves[0], overlapping)):
        with pytest.raises(ValueError, match="shape|overlap"):
            function(array, out=pair)
    with pytest.raises(ValueError, match=r"out\[0\] and out\[1\] overlap"):
        function(array, out=halves)
    assert gpu.launches == 0 and (whole.numpy() == 0).all()
    apart = Given(whole, shape=(4,), strides=None, data=(address + 16, False))
    function(array, out=(halves[0], apart))
    function.synchronize()
    assert whole.numpy().tolist() == [1] * 4 + [2] * 4


def test_broadcast_arrays_are_read_and_not_written(gpu: fake_cuda.FakeDriver) -> None:
    function = plus_one()
    one = Given(gpu.array(np.ones(1, "f4")), shape=(4,), strides=(0,))
    assert (function(one).numpy() == 2).all()
    with pytest.raises(ValueError, match="expected a C-contiguous float32"):
        function(np.zeros(4, "f4"), out=one)


def test_what_no_device_has_is_not_copied_there(gpu: fake_cuda.FakeDriver) -> None:
    function = plus_one()
    before = gpu.used
    for wrong in (["a", "b"], [object()], np.zeros(3, "c16"), np.zeros(2, "M8[s]")):
        with pytest.raises(TypeError, match="to_device"):
            function.to_device(wrong)
    assert gpu.used == before
    swapped = function.to_device(np.arange(4, dtype=">f4"))
    assert swapped.dtype == np.dtype("f4") and (function(swapped).numpy() == [1, 2, 3, 4]).all()
    with pytest.raises(MemoryError, match=r"the copy of an array takes \d+ bytes"):
        function.to_device(np.zeros(fake_cuda.MEMORY_BYTES + 1, "u1"))
    assert (function(swapped).numpy() == [1, 2, 3, 4]).all()


def test_constants_that_do_not_fit_leave_nothing(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (8,), "float32")
    large = np.random.default_rng(0).normal(size=fake_cuda.MEMORY_BYTES // 4).astype("f4")
    first = np.random.default_rng(1).normal(size=1000).astype("f4")
    with pytest.raises(MemoryError, match=r"a constant of f\(\) takes \d+ bytes"):
        gx.compile([x], [x * first[:8] + first.sum() + gx.constant(first)[:8],
                         gx.take(gx.constant(large), x.astype("int64"))],
                   target="cuda", options=PLAIN)  # fmt: skip
    gc.collect()
    device = cuda_device.device(0)
    with device.in_use():
        device.synchronize()
        device.synchronize()
    assert not gpu.modules and gpu.used <= device.arena.nbytes


def test_a_missing_compiler_is_told_before_anything_is_done(
    gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> Any:
        raise RuntimeError("libnvrtc.so.13 was not found")

    monkeypatch.setattr(fake_cuda.FakeNvrtc, "_nvrtcGetSupportedArchs", refuse)
    with pytest.raises(gx.CompileError, match="NVRTC is not installed: pip install nvidia-cuda-nv"):
        plus_one()
    assert not gpu.modules and gpu.used == 0


@pytest.mark.parametrize("number", [-1, 2, 10**9])
def test_a_device_that_is_not_there(number: int, gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    with pytest.raises((gx.CompileError, ValueError), match="GPU|device"):
        gx.compile([x], x + 1, target="cuda", options=gx.Options(cache=False, device=number))


def test_no_device_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda.put_in_place(monkeypatch, devices=0)
    with pytest.raises(gx.CompileError, match="no GPU number 0: there is none"):
        plus_one()


def test_a_size_that_no_memory_holds(gpu: fake_cuda.FakeDriver) -> None:
    """Extents that come from arrays of a few bytes: what they lead to is refused in whole."""
    x, y = gx.symbol("x", ("n",), "float32"), gx.symbol("y", ("m",), "float32")
    function = gx.compile([x, y], gx.exp(x[:, None] * y), target="cuda", options=PLAIN)
    for shape in ((5000, 5000), (1 << 20, 1 << 20)):
        rows, columns = (np.broadcast_to(np.float32(0), (extent,)) for extent in shape)
        given = [gpu.array(np.zeros(1, "f4")) for _ in range(2)]
        on_gpu = [
            Given(array, shape=(extent,), strides=(0,))
            for array, extent in zip(given, shape, strict=True)
        ]
        with pytest.raises(MemoryError):
            function(*on_gpu)
        if shape[0] < 1 << 20:
            with pytest.raises(MemoryError):
                function(rows, columns)
    assert gpu.launches == 0
    assert (function(np.zeros(2, "f4"), np.zeros(3, "f4")) == 1).all()
