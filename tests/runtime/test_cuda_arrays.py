"""Are arrays of PyTorch, CuPy, JAX and Numba on a GPU taken where they lie, and results given out?

With stand-ins of the libraries' arrays (`gpu_arrays`) and of the driver; not run on a GPU.
"""

from __future__ import annotations

import importlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc as gx
from graphc.runtime import dlpack
from graphc.runtime.cuda.array import DeviceArray
from tests.cuda_emulator import emulator

pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
from tests.runtime import fake_cuda, gpu_arrays

PLAIN = gx.Options(cache=False)


@emulator.required
@pytest.mark.parametrize("kind", gpu_arrays.KINDS)
def test_traced_functions_take_them_in_place(kind: str, gpu: fake_cuda.FakeDriver) -> None:
    """In containers, beside Python numbers and ndarrays, at sizes of a trace, with strides."""
    make = gpu_arrays.KINDS[kind]
    stream = gpu.new_stream()

    @gx.jit(target="cuda", options=PLAIN)
    def step(parameters: dict[str, Any], x: Any, rate: float) -> Any:
        return {"w": parameters["w"] - rate * (x @ parameters["w"]), "total": x.sum()}

    for n in (3, 5):
        x, w = np.arange(n * n, dtype="f4").reshape(n, n), np.ones((n, 2), "f4")
        wanted = {"w": w - np.float32(0.5) * (x @ w), "total": x.sum()}
        result = step({"w": make(gpu, w, stream)}, make(gpu, x, stream), 0.5)
        assert isinstance(result["w"], DeviceArray)
        assert {kind for kind, _ in gpu.copies} <= {"up", "down"}
        assert all(nbytes <= 8 for _, nbytes in gpu.copies if _ == "up")  # the Python number alone
        gpu.copies.clear()
        for name, want in wanted.items():
            np.testing.assert_allclose(result[name].numpy(), want, rtol=1e-5)
        gpu.copies.clear()
        turned = step({"w": make(gpu, w, stream)}, make(gpu, x.T, stream), 0.5)
        np.testing.assert_allclose(turned["w"].numpy(), w - 0.5 * (x.T @ w), rtol=1e-5)
        gpu.copies.clear()
    assert len(step.traces) == 1


@emulator.required
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "bool", "uint8", "int64", "float64"])
@pytest.mark.parametrize("kind", gpu_arrays.KINDS)
def test_dtypes_are_read_as_the_library_spells_them(
    kind: str, dtype: str, gpu: fake_cuda.FakeDriver
) -> None:
    if kind == "NumbaArray" and dtype == "bfloat16":
        pytest.skip("the protocol has no bfloat16")
    elements = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    content = np.array([0, 1, 1, 0, 1], elements)
    array = gpu_arrays.KINDS[kind](gpu, content, gpu.new_stream())
    double = gx.jit(lambda x: x | x if dtype == "bool" else x + x, target="cuda", options=PLAIN)
    result = double(array)
    assert isinstance(result, DeviceArray) and result.dtype == elements and not gpu.copies
    assert (result.numpy() == (content if dtype == "bool" else content + content)).all()


@emulator.required
def test_what_cannot_be_taken_is_told_by_name(gpu: fake_cuda.FakeDriver) -> None:
    stream = gpu.new_stream()
    function = gx.jit(lambda x: x + 1, target="cuda", options=PLAIN)
    learning = gpu_arrays.TorchTensor(gpu, np.zeros(4, "f4"), stream)
    learning.requires_grad = True
    with pytest.raises(BufferError, match=r"argument.*x.*\n?.*require gradient, use tensor.detach"):
        function(learning)
    with pytest.raises(TypeError, match="argument x: dtype complex64 is not supported"):
        function(gpu_arrays.TorchTensor(gpu, np.zeros(4, "c8"), stream))
    with pytest.raises(ValueError, match="on cuda:1, the Function runs on cuda:0"):
        function(gpu_arrays.CupyArray(gpu, np.zeros(4, "f4"), stream, 1))
    on_cpu = gx.jit(lambda x: x + 1)
    for kind in ("TorchTensor", "CupyArray"):
        array = gpu_arrays.KINDS[kind](gpu, np.zeros(4, "f4"), stream)
        with pytest.raises(TypeError, match="NumPy cannot make an array of it"):
            on_cpu(array)
    assert gpu.launches == 0


@emulator.required
@pytest.mark.parametrize("kind", gpu_arrays.KINDS)
def test_out_is_written_in_place_unless_it_may_not_be(
    kind: str, gpu: fake_cuda.FakeDriver
) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = gx.compile([x], x * 2, target="cuda", options=PLAIN)
    stream = gpu.new_stream()
    make = gpu_arrays.KINDS[kind]
    array, target = make(gpu, np.ones(4, "f4"), stream), make(gpu, np.zeros(4, "f4"), stream)
    if kind == "JaxArray":
        with pytest.raises(ValueError, match="out: the array is read-only"):
            function(array, out=target)
        donating = gx.compile([x], x * 2, target="cuda", options=PLAIN, donate=[x])
        with pytest.raises(ValueError, match="is donated, but read-only"):
            donating(array)
        assert gpu.launches == 0
        return
    assert function(array, out=target) is target
    function.synchronize()
    assert (target.there() == 2).all() and not gpu.copies


@emulator.required
def test_results_go_to_consumers_by_either_protocol(gpu: fake_cuda.FakeDriver) -> None:
    """What `torch.from_dlpack`, `cupy.asarray` and `jax.dlpack.from_dlpack` ask of an array."""
    x = gx.symbol("x", (2, 3), "float32")
    function = gx.compile([x], x + 1, target="cuda", options=PLAIN)
    result = function(gpu.array(np.zeros((2, 3), "f4")))
    consumer = gpu.new_stream()
    assert result.__dlpack_device__() == (2, 0)
    capsule = result.__dlpack__(stream=consumer, max_version=(1, 1), dl_device=None, copy=None)
    view = dlpack.read(capsule)
    seen: list[np.ndarray] = []
    gpu._put(consumer, lambda: seen.append(gpu._bytes(view.address, 24).view("f4").copy()))
    gpu.streams[consumer].drain()  # the consumer's kernel comes after ours
    assert (seen[0] == 1).all() and view.strides == (12, 4) and not view.read_only
    interface = result.__cuda_array_interface__
    assert interface["version"] == 3 and interface["data"] == (view.address, False)
    assert interface["stream"] in gpu.streams
    with pytest.raises(BufferError, match="where it lies"):
        result.__dlpack__(dl_device=(1, 0))


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_capsules_of_the_libraries_themselves_are_read(library: str) -> None:
    """On the CPU, where the libraries are installed: their structures are what graphc reads."""
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    for name in ("float32", "float16", "bfloat16", "bool", "int32", "uint8"):
        array = module.ones((4, 6), dtype=getattr(importlib.import_module(library), name))
        array = array[1:, 2:] if library == "torch" else array
        for version in ({}, {"max_version": dlpack.VERSION}):
            view = dlpack.read(array.__dlpack__(**version))
            assert view.dtype.name == name and view.shape == tuple(array.shape)
            assert view.strides[0] == 6 * view.dtype.itemsize and view.device[0] == dlpack.CPU
    assert callable(type(array).__dlpack_device__)
