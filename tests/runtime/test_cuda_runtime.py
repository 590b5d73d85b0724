"""Does target="cuda" compute what the CPU computes, with which copies, and what if something fails?

There is no GPU here. A stand-in for the driver (`fake_cuda`) executes the launches by the CPU
emulator, keeps books and fails on demand, so all of the runtime above the driver's functions runs.
What was checked is: compiled by NVRTC, executed by a CPU emulator; not run on a GPU.
"""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.cuda import loop as cuda_loop
from graphc.runtime import dlpack
from graphc.runtime.cache import Cache
from graphc.runtime.cuda import device as cuda_device
from graphc.runtime.cuda import driver as cuda_driver
from graphc.runtime.cuda import launch as cuda_launch
from graphc.runtime.cuda.array import DeviceArray
from tests.cuda_emulator import emulator

pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
from tests.runtime import fake_cuda

pytestmark = emulator.required

PLAIN = gx.Options(cache=False)


def on_gpu(inputs: Any, outputs: Any, **named: Any) -> Any:
    return gx.compile(inputs, outputs, target="cuda", **{"options": PLAIN, **named})


def close(got: Any, wanted: Any) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        tolerance = 1e-5 if one.dtype.itemsize > 2 else 1e-2
        np.testing.assert_allclose(
            one.astype("f8"), other.astype("f8"), rtol=tolerance, atol=tolerance
        )


# -- numerics --------------------------------------------------------------------------------------


def _perceptron() -> tuple[list[Any], list[Any]]:
    x, w = gx.symbol("x", ("n", 64), "float32"), gx.symbol("w", (64, 5), "float32")
    loss = (gx.softmax(x @ w, axis=1) ** 2).sum()
    return [x, w], [loss, gx.grad(loss, w)]


def _control() -> tuple[list[Any], list[Any]]:
    x, w = gx.symbol("x", ("n", 8), "float32"), gx.symbol("w", (8, 8), "float32")
    table = gx.constant(np.arange(16, dtype="float32").reshape(2, 8))
    state, _ = gx.scan(lambda s, row: (gx.tanh(s @ w + row), s), w[0], x, reverse=True)
    grown = gx.while_loop(lambda s: s.sum() < 100.0, lambda s: s * s + 2.0, gx.exp(state))
    chosen = gx.cond(grown.sum() > 3.0, lambda a: a + table[0], lambda a: a - table[1], grown)
    return [x, w], [chosen, gx.call(lambda a: gx.softmax(a, axis=1), x)]


def _dtypes() -> tuple[list[Any], list[Any]]:
    x = gx.symbol("x", ("n", 6), "float32")
    h = x.astype("float16")
    return [x], [h * h, (x > 0), x.astype("int8"), x.astype("bfloat16") + 1, x.astype("float64")]


def _scalar() -> tuple[list[Any], list[Any]]:
    a = gx.symbol("a", (), "float64")
    return [a], [gx.exp(a), a * 2]


PROGRAMS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "perceptron": (_perceptron, [(10, 64), (64, 5)]),
    "control": (_control, [(4, 8), (8, 8)]),
    "dtypes": (_dtypes, [(7, 6)]),
    "no rows": (_dtypes, [(0, 6)]),
    "scalar": (_scalar, [()]),
}


def _arrays(inputs: Sequence[Any], shapes: Sequence[Any]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        np.asarray(random.normal(size=shape), node.dtype)
        for node, shape in zip(inputs, shapes, strict=True)
    ]


@pytest.fixture
def loops_on_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops of little work stay in the plan, as those of more work do."""
    for name in ("MOST_WORK_OF_ROUND", "MOST_WORK_OF_TEST"):
        monkeypatch.setattr(cuda_loop, name, 0)


@pytest.mark.usefixtures("loops_on_host")
def test_loops_and_choices_of_the_plan(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _control()
    arrays = _arrays(inputs, [(4, 8), (8, 8)])
    function = on_gpu(inputs, outputs)
    kinds = {type(step).__name__ for step in function.cuda.plan.steps}
    assert {"LoopStep", "WhileStep", "SwitchStep", "CallStep"} <= kinds
    for _ in range(3):
        close(function(*arrays), gx.compile(inputs, outputs)(*arrays))
    assert function.counts.graphs == 0 and not gpu.calls["cuStreamBeginCapture"]
    assert "no graphs: data decide" in str(function.report())


@pytest.mark.usefixtures("loops_on_host")
def test_a_check_that_fails_ends_a_loop(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    grown = gx.while_loop(
        lambda s: s.sum() < 1e6, lambda s: gx.check(s + 1, s.max() < 3, "too large"), x
    )
    function = on_gpu([x], grown)
    with pytest.raises(ValueError, match="too large"):
        function(np.zeros(4, "f4"))
    assert function.counts.launches < 40


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_cpu(name: str, gpu: fake_cuda.FakeDriver) -> None:
    make, shapes = PROGRAMS[name]
    inputs, outputs = make()
    arrays = _arrays(inputs, shapes)
    wanted = gx.compile(inputs, outputs)(*arrays)
    function = on_gpu(inputs, outputs)
    for _ in range(3):  # the second call makes a graph, the third runs it
        close(function(*arrays), wanted)
    given = [gpu.array(array) for array in arrays]
    for _ in range(3):
        close([each.numpy() for each in function(*given)], wanted)


def test_an_ndarray_of_any_layout_and_a_list_are_taken(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (3, 4), "float64")
    function = on_gpu([x], x * 2)
    array = np.arange(12.0).reshape(4, 3).T
    assert (function(array) == array * 2).all()
    assert (function(x=array.tolist()) == array * 2).all()
    with pytest.raises(TypeError, match="argument 1, x"):
        function(array.astype("c16"))
    with pytest.raises(ValueError, match="axis 1 is 5, not 4"):
        function(np.ones((3, 5)))
    with pytest.raises(TypeError, match="takes 1 argument"):
        function()


def test_containers_pickle_and_what_a_function_tells(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", ("n",), "float32")
    function = on_gpu([{"x": x}], {"y": gx.exp(x)}, name="grow")
    array = np.ones(3, "f4")
    again = pickle.loads(pickle.dumps(function))
    assert (again({"x": array})["y"] == function({"x": array})["y"]).all()
    assert "__global__" in function.cuda_source and function.counts.calls == 1
    assert function.verify() and function.explain_nan({"x": array}) is None
    assert function.stream in gpu.streams
    function.synchronize()


def test_the_report_of_a_function(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    function = on_gpu(inputs, outputs)
    assert function.report().bytes is None  # nobody has said how many rows
    for _ in range(3):
        function(*arrays)
    report = function.report()
    assert report.launches == function.counts.launches and report.device == "Emulated GPU"
    assert report.kernels[0].usage.registers == 24  # what the stand-in for NVRTC says
    text = str(report)
    assert "calls so far: 3, of which 2 as one of 1 CUDA graphs" in text and "nvrtc" in text


# -- arrays on the GPU -----------------------------------------------------------------------------


class Tensor:
    """An array as PyTorch gives it out: by DLPack alone, made on a stream of its own."""

    def __init__(self, array: fake_cuda.FakeArray, number: int = 0, versioned: bool = True) -> None:
        self.array, self.number, self.versioned = array, number, versioned
        self.waited: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.number

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        self.waited.append(stream)
        interface = self.array.__cuda_array_interface__
        view = dlpack.View(
            interface["data"][0],
            self.__dlpack_device__(),
            self.array.content.dtype,
            interface["shape"],
            interface["strides"],
            False,
            self.array,
        )
        return dlpack.write(view, self.versioned)


def test_arrays_on_the_gpu_are_neither_copied_nor_waited_for(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    function = on_gpu(inputs, outputs)
    tensor = Tensor(gpu.array(arrays[0]))
    given = [tensor, gpu.array(arrays[1])]
    results = [function(*given) for _ in range(3)]
    assert gpu.copies == [] and gpu.launches == 0  # all of it still waits on the stream
    assert tensor.waited == [function.stream] * 3
    assert all(isinstance(each, DeviceArray) for each in results[0])
    wanted = gx.compile(inputs, outputs)(*arrays)
    close([each.numpy() for each in results[2]], wanted)
    # results go on as arguments, and out again by either protocol
    close([each.numpy() for each in function(given[0], results[0][1])][:0], [])
    interface = results[0][1].__cuda_array_interface__
    assert interface["data"][0] == results[0][1].address and interface["stream"] == function.stream
    view = dlpack.read(results[0][1].__dlpack__(stream=fake_cuda.PER_THREAD))
    assert (view.address, view.shape, view.device) == (interface["data"][0], (64, 5), (2, 0))
    assert gpu.streams[fake_cuda.PER_THREAD].waiting  # a wait for our stream
    with pytest.raises(BufferError):
        results[0][1].__dlpack__(copy=True)


def test_traced_functions_and_checks_take_arrays_on_the_gpu(gpu: fake_cuda.FakeDriver) -> None:
    @gx.jit(target="cuda", options=PLAIN)
    def scaled(x: Any) -> Any:
        return x * 2.0 - x.sum()

    array = np.arange(4, dtype="f4")
    given = gpu.array(array)
    result = scaled(scaled(given))
    assert isinstance(result, DeviceArray) and not gpu.copies
    wanted = array * 2 - array.sum()
    close([result.numpy()], [wanted * 2 - wanted.sum()])
    close([scaled(array)], [wanted])
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], gx.log(x - 1))
    assert function.verify(gpu.array(array + 2))
    origin = function.explain_nan(given)
    assert origin is not None and origin.index == (0,)
    with pytest.raises(ValueError, match="not C-contiguous"):
        function.verify(gpu.array(array[::-1]))


def test_results_look_like_arrays(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (3, 2), "float32")
    function = on_gpu([x], x + 1)
    result = function(gpu.array(np.zeros((3, 2), "f4")))
    assert (result.ndim, result.size, result.nbytes, len(result)) == (2, 6, 24, 3)
    assert "DeviceArray(cuda:0, float32, (3, 2))" in repr(result)
    assert (np.asarray(result, "f8") == 1).all() and result.device == 0
    with pytest.raises(ValueError, match="copying"):
        np.asarray(result, copy=False)
    scalar = on_gpu([x], x.sum())(gpu.array(np.zeros((3, 2), "f4")))
    with pytest.raises(TypeError, match="rank 0"):
        len(scalar)
    assert (function.to_device([[1, 2]]).numpy() == [[1, 2]]).all()
    half = on_gpu([x], x.astype("bfloat16"))(gpu.array(np.zeros((3, 2), "f4")))
    assert not hasattr(half, "__cuda_array_interface__")
    assert dlpack.read(half.__dlpack__(max_version=(1, 0))).dtype == half.dtype


def test_any_strides_and_addresses_are_read_in_place(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", ("n", "m"), "float32")
    function = on_gpu([x], [x * 2, x.sum(axis=0)])
    base = np.arange(60, dtype="f4").reshape(6, 10)
    for view in (base.T, base[::-1, ::3], base.reshape(-1)[1:25].reshape(4, 6), base[:, :0]):
        close(
            [each.numpy() for each in function(gpu.array(view))],
            [view * np.float32(2), view.sum(axis=0)],
        )
        assert function.counts.calls == (0 if view.size else 1)  # kernels for C order read packs
    assert {kind for kind, _ in gpu.copies} == {"down"}


def test_what_producers_still_do_comes_first(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], x + 1)
    array = gpu.array(np.zeros(4, "f4"))
    array.stream = fake_cuda.PER_THREAD
    producer = gpu.streams[fake_cuda.PER_THREAD]
    producer.put += 1
    producer.waiting.append(lambda: array.buffer.array.fill(5))
    assert (function(array).numpy() == 6).all()


def test_what_the_device_still_reads_is_held(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], x + 1)
    array = gpu.array(np.zeros(4, "f4"))
    taken = [Tensor(array)]
    result = function(taken.pop())
    gc.collect()
    assert dlpack._GIVEN  # the producer may not have its memory back yet
    result.numpy()
    function.synchronize()
    gc.collect()
    assert not any(array is each for given in dlpack._GIVEN.values() for each in given)


def test_memory_of_results_comes_back(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (1000,), "float32")
    function = on_gpu([x], x + 1)
    array = gpu.array(np.zeros(1000, "f4"))
    function(array).numpy()
    function.synchronize()
    before = gpu.used
    for _ in range(5):
        function(array)
        function.synchronize()
    function.synchronize()
    assert gpu.used == before
    del function
    gc.collect()
    device = cuda_device.device(0)
    with device.in_use():
        device.tidy()
    assert not gpu.modules and not gpu.executables


# -- out= and donations ----------------------------------------------------------------------------


def test_out_on_either_side(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4, 3), "float32")
    function = on_gpu([x], x[::-1] + 1)
    array = np.arange(12, dtype="f4").reshape(4, 3)
    wanted = array[::-1] + 1
    host = np.zeros((3, 4), "f8").T
    assert function(array, out=host) is host and (host == wanted).all()
    on_device = gpu.array(np.zeros((4, 3), "f4"))
    assert function(gpu.array(array), out=on_device) is on_device
    function.synchronize()
    assert (on_device.numpy() == wanted).all()
    assert [kind for kind, _ in gpu.copies].count("across") == 0
    same = gpu.array(array)  # read and written: by way of scratch
    function(same, out=same)
    function.synchronize()
    assert (same.numpy() == wanted).all() and gpu.copies[-1] == ("across", 48)
    assert function(array, out=on_device) is on_device
    assert function(gpu.array(array), out=host) is host


def test_out_that_cannot_be_written_is_refused(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], [x + 1, x + 2])
    array = np.zeros(4, "f4")
    frozen = gpu.array(array)
    frozen.read_only = True
    given = gpu.array(array)
    with pytest.raises(ValueError, match=r"out\[1\]: the array is read-only"):
        function(array, out=(None, frozen))
    with pytest.raises(ValueError, match=r"out\[0\]: expected a C-contiguous float32"):
        function(array, out=(gpu.array(np.zeros(5, "f4")), None))
    with pytest.raises(TypeError, match="got a str"):
        function(array, out=("no", None))
    with pytest.raises(ValueError, match="overlap"):
        function(array, out=(array, array))
    with pytest.raises(ValueError, match="expected 2 arrays"):
        function(array, out=(array,))
    assert (given.numpy() == 0).all() and (array == 0).all() and gpu.launches == 0


def test_a_donated_array_becomes_the_output(gpu: fake_cuda.FakeDriver) -> None:
    x, y = gx.symbol("x", (4,), "float32"), gx.symbol("y", (4,), "float32")
    function = on_gpu([x, y], [x + y], donate=[x])
    host, ones = np.arange(4, dtype="f4"), np.ones(4, "f4")
    assert function(host, ones)[0] is host and (host == np.arange(1, 5)).all()
    given = gpu.array(host)
    assert function(given, gpu.array(ones))[0] is given
    function.synchronize()
    assert (given.numpy() == np.arange(2, 6)).all()
    with pytest.raises(ValueError, match="is donated, but overlaps argument y"):
        function(given, given)
    with pytest.raises(ValueError, match="is the same array"):
        function(host, host)
    given.read_only = True
    with pytest.raises(ValueError, match="is donated, but read-only"):
        function(given, ones)


# -- what a GPU cannot take ------------------------------------------------------------------------


def test_arrays_of_another_kind_or_device_are_refused(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], x + 1)
    with pytest.raises(TypeError, match=r"got dtype float64 on the GPU\n.*convert it to float32"):
        function(gpu.array(np.zeros(4)))
    elsewhere = fake_cuda.FakeArray(gpu, np.zeros(4, "f4"), device=1)
    for array in (elsewhere, Tensor(elsewhere, 1)):
        with pytest.raises(ValueError, match=r"on cuda:1, the Function runs on cuda:0"):
            function(array)
    odd = gpu.array(np.zeros(17, "u1")[1:])
    odd.content = np.zeros(4, "f4")
    with pytest.raises(ValueError, match="its address is no multiple of 4"):
        function(odd)
    masked = gpu.array(np.zeros(4, "f4"))
    interface = {**masked.__cuda_array_interface__, "mask": masked}
    with pytest.raises(TypeError, match="masked"):
        function(type("Masked", (), {"__cuda_array_interface__": interface})())
    assert gpu.launches == 0
    other = on_gpu([x], x + 1, options=gx.Options(cache=False, device=1))
    assert (other(elsewhere).numpy() == 1).all()
    with pytest.raises(ValueError, match="on cuda:1"):
        function(other(elsewhere))
    with pytest.raises(gx.CompileError, match="no GPU number 2: they are numbered 0 to 1"):
        on_gpu([x], x + 1, options=gx.Options(cache=False, device=2))


@pytest.mark.parametrize("kind", ["threads", "registers", "shared", "old", "pools", "text"])
def test_a_device_that_cannot_take_a_kernel_says_so(
    kind: str, gpu: fake_cuda.FakeDriver
) -> None:
    x = gx.symbol("x", (4,), "float32")
    nvrtc = cuda_driver.bindings().nvrtc
    said = {
        "threads": "threads in a block; Emulated GPU has 1",
        "registers": "with its registers; Emulated GPU has 1",
        "shared": "needs 65536 bytes of shared memory",
        "old": "the GPU is of architecture sm_52",
        "pools": "no stream-ordered memory",
        "text": "refuses the kernels for sm_90:\nptxas error   : too much shared data",
    }
    gpu.attributes |= {"MAX_THREADS_PER_BLOCK": 1} if kind == "threads" else {}
    gpu.attributes |= {"MEMORY_POOLS_SUPPORTED": 0} if kind == "pools" else {}
    if kind == "old":
        gpu.attributes |= {"COMPUTE_CAPABILITY_MAJOR": 5, "COMPUTE_CAPABILITY_MINOR": 2}
    gpu.limits |= {"MAX_THREADS_PER_BLOCK": 1} if kind == "registers" else {}
    gpu.limits |= {"SHARED_SIZE_BYTES": 65536} if kind == "shared" else {}
    nvrtc.refusal = "too much shared data" if kind == "text" else ""
    with pytest.raises(gx.CompileError) as error:
        on_gpu([x], gx.softmax(x, axis=0))
    assert said[kind] in str(error.value)
    assert not gpu.modules  # nothing half-loaded stays


def test_a_newer_device_gets_ptx(gpu: fake_cuda.FakeDriver) -> None:
    gpu.attributes |= {"COMPUTE_CAPABILITY_MAJOR": 13}
    x = gx.symbol("x", (4,), "float32")
    assert (on_gpu([x], x + 1)(np.zeros(4, "f4")) == 1).all()
    [(_, flags)] = cuda_driver.bindings().nvrtc.compiled
    assert "--gpu-architecture=compute_100" in flags


# -- failures --------------------------------------------------------------------------------------


def test_a_failing_check_names_the_line_and_writes_nothing(gpu: fake_cuda.FakeDriver) -> None:
    x, i = gx.symbol("x", (5,), "float32"), gx.symbol("i", (3,), "int64")
    function = on_gpu([x, i], gx.take(x, i))
    array, out = np.arange(5, dtype="f4"), np.full(3, 7, "f4")
    for _ in range(3):
        with pytest.raises(IndexError, match=r"index 9 is out of range(?s:.*)test_cuda_runtime"):
            function(array, np.array([0, 9, 1]), out=out)
        assert (out == 7).all()
        assert (function(array, np.array([4, 0, 1])) == [4, 0, 1]).all()
    with pytest.raises(IndexError):
        function(gpu.array(array), np.array([0, 9, 1]))


CALLS_THAT_FAIL = {
    "cuMemAllocAsync": "OUT_OF_MEMORY",
    "cuMemHostAlloc": "OUT_OF_MEMORY",
    "cuMemcpyHtoDAsync": "INVALID_VALUE",
    "cuMemcpyDtoHAsync": "INVALID_VALUE",
    "cuLaunchKernel": "INVALID_VALUE",
    "cuEventRecord": "UNKNOWN",
    "cuStreamSynchronize": "UNKNOWN",
    "cuStreamBeginCapture": "STREAM_CAPTURE_UNSUPPORTED",
    "cuStreamEndCapture": "STREAM_CAPTURE_INVALIDATED",
    "cuGraphInstantiate": "OUT_OF_MEMORY",
    "cuGraphLaunch": "UNKNOWN",
}
# If these fail when the kernels are done some of the results have been copied.
COPIES_BACK = ("cuMemcpyDtoHAsync", "cuEventRecord")


def test_other_errors_of_memory_are_the_driver_s(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], x + 1)
    gpu.fail("cuMemAllocAsync", "UNKNOWN")
    with pytest.raises(cuda_driver.CudaError, match="cuMemAllocAsync failed with CUDA_ERROR_UNKN"):
        function(np.zeros(4, "f4"))
    given = gpu.array(np.zeros(4, "f4"))
    function(given)
    gpu.fail("cuEventQuery", "UNKNOWN")
    with pytest.raises(cuda_driver.CudaError, match="cuEventQuery"):
        function(given)
    assert (function(given).numpy() == 1).all()


@pytest.mark.parametrize("call", CALLS_THAT_FAIL)
def test_any_call_of_the_driver_may_fail_at_any_point(
    call: str, gpu: fake_cuda.FakeDriver
) -> None:
    """Whichever call fails, the error is one of Python's, `out` is as it was, and when the driver
    is well again so is the Function.
    """
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    wanted = gx.compile(inputs, outputs)(*arrays)
    function = on_gpu(inputs, outputs)
    failed = 0
    given = [gpu.array(array) for array in arrays]
    for nth in (1, 2, 5):
        gpu.fail(call, CALLS_THAT_FAIL[call], nth, times=2)
        out = np.full((64, 5), 7, "f4")
        for arguments, target in ((arrays, out), (given, None)) * 2:
            out[:] = 7
            try:
                result = function(*arguments, out=(None, target))
                close([np.asarray(each) for each in result], wanted)
            except (RuntimeError, MemoryError) as error:
                failed += 1
                assert (out == 7).all() or call in COPIES_BACK
                assert CALLS_THAT_FAIL[call] in str(error) or "bytes" in str(error)
        gpu.fail(call, "UNKNOWN", times=0)
    assert failed or call in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate")
    close(function(*arrays), wanted)
    function.synchronize()
    gc.collect()
    assert all(stream.capture is None for stream in gpu.streams.values())


def test_too_little_memory_says_how_much(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", ("n",), "float32")
    function = on_gpu([x], gx.exp(x) + x.sum())
    small = np.ones(8, "f4")
    for array in (np.broadcast_to(np.float32(1), 1 << 22), small):
        if array is small:
            assert np.allclose(function(array), np.e + 8)
            continue
        with pytest.raises(MemoryError, match=r"\d+ bytes on Emulated GPU, of whose 16777216"):
            function(array)
    assert function.counts.calls == 1


def test_memory_of_calls_under_way_is_waited_for(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (1 << 20,), "uint8")
    function = on_gpu([x], x + np.uint8(1))
    array = gpu.array(np.zeros(1 << 20, "u1"))
    gpu.skips_kernels = True
    for _ in range(20):  # each result is dropped at once, and there is room for 14
        function(array)
    assert gpu.peak <= fake_cuda.MEMORY_BYTES


def test_an_error_on_the_device_is_told_when_it_shows(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], x + 1)
    out = np.zeros(4, "f4")
    gpu.fail_on_device("ILLEGAL_ADDRESS")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ILLEGAL_ADDRESS: the device cannot be used again"):
            function(out, out=out)
    assert (out == 0).all()
    gpu.contexts.clear()  # a device in that state takes no pop either


def test_a_launch_that_fails_names_the_kernel(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", (4,), "float32")
    function = on_gpu([x], gx.tanh(x))
    gpu.fail("cuLaunchKernel", "LAUNCH_OUT_OF_RESOURCES")
    with pytest.raises(cuda_launch.LaunchError, match=r"tanh_\w+ \(tanh\): cuLaunchKernel failed"):
        function(np.zeros(4, "f4"))
    assert (function(np.zeros(4, "f4")) == 0).all()


# -- graphs ----------------------------------------------------------------------------------------


def test_repeated_calls_are_one_call_of_the_driver(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    function = on_gpu(inputs, outputs)
    for _ in range(5):
        function(*arrays)
    counts = function.counts
    assert counts.launches > 1 and (counts.graphs, counts.graph_runs) == (1, 4)
    assert gpu.calls["cuLaunchKernel"] == 2 * counts.launches  # on the stream once, in a graph once
    close(function(arrays[0][:3], arrays[1]), gx.compile(inputs, outputs)(arrays[0][:3], arrays[1]))
    assert counts.graphs == 1  # other extents, seen once


def test_no_more_graphs_are_kept_than_needed(
    gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_launch, "MOST_GRAPHS", 2)
    x = gx.symbol("x", ("n", 4), "float32")
    function = on_gpu([x], (gx.softmax(x, axis=0) @ gx.softmax(x, axis=0).T).sum())
    for rows in range(1, cuda_launch.MOST_GRAPHS + 3):
        for _ in range(2):
            function(np.ones((rows, 4), "f4"))
    assert len(gpu.executables) == cuda_launch.MOST_GRAPHS and not gpu.graphs


def test_a_launch_that_fails_in_a_graph_leaves_no_capture(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    function = on_gpu(inputs, outputs)
    wanted = function(*arrays)
    gpu.fail("cuLaunchKernel", "INVALID_VALUE", nth=2)
    with pytest.raises(cuda_launch.LaunchError):
        function(*arrays)
    assert all(stream.capture is None for stream in gpu.streams.values()) and not gpu.graphs
    gpu.fail("cuLaunchKernel", "INVALID_VALUE", nth=2)
    gpu.fail("cuStreamEndCapture", "STREAM_CAPTURE_INVALIDATED")
    with pytest.raises(cuda_launch.LaunchError):
        function(*arrays)
    close(function(*arrays), wanted)
    assert function.counts.graphs == 1


def test_a_call_of_very_many_launches_is_no_graph(
    gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_launch, "MOST_NODES", 2)
    inputs, outputs = _perceptron()
    function = on_gpu(inputs, outputs)
    for _ in range(3):
        function(*_arrays(inputs, [(10, 64), (64, 5)]))
    assert function.counts.graphs == 0 and "a graph takes 2 to 2" in str(function.report())


def test_a_driver_that_makes_no_graphs_is_asked_once(gpu: fake_cuda.FakeDriver) -> None:
    inputs, outputs = _perceptron()
    arrays = _arrays(inputs, [(10, 64), (64, 5)])
    function = on_gpu(inputs, outputs)
    gpu.fail("cuGraphInstantiate", "NOT_SUPPORTED", times=100)
    for _ in range(5):
        close(function(*arrays), gx.compile(inputs, outputs)(*arrays))
    assert gpu.calls["cuGraphInstantiate"] == 1 and not gpu.graphs


# -- compiling -------------------------------------------------------------------------------------


def test_machine_code_is_kept_on_disk(
    gpu: fake_cuda.FakeDriver, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphc.runtime.engine import engine

    monkeypatch.setattr(engine(), "cache", Cache(tmp_path))
    nvrtc = cuda_driver.bindings().nvrtc
    x = gx.symbol("x", (4,), "float32")
    for _ in range(2):
        function = on_gpu([x], gx.tanh(x), options=gx.Options())
        assert len(nvrtc.compiled) == 1 and (function(np.zeros(4, "f4")) == 0).all()
    [entry] = (path for path in tmp_path.rglob("*") if path.is_file() and len(path.name) == 64)
    entry.write_bytes(entry.read_bytes()[:-3])
    on_gpu([x], gx.tanh(x), options=gx.Options())
    assert len(nvrtc.compiled) == 2  # what is damaged is made anew


def test_copies_of_many_chunks(
    gpu: fake_cuda.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "CHUNK_BYTES", 64)
    x = gx.symbol("x", ("n",), "float32")
    function = on_gpu([x], [x + 1, x * 2])
    for length in (0, 1, 16, 17, 200):
        array = np.arange(length, dtype="f4")
        close(function(array), [array + 1, array * 2])
    assert len(gpu.pinned) == cuda_device.CHUNKS


def test_threads_call_at_once(gpu: fake_cuda.FakeDriver) -> None:
    x = gx.symbol("x", ("n",), "float32")
    function = on_gpu([x], gx.exp(x).sum() + x)
    results: list[Any] = []

    def work(seed: int) -> None:
        for length in range(seed + 1, seed + 6):
            array = np.arange(length, dtype="f4") / 8
            results.append((function(array), np.exp(array).sum() + array))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    for got, wanted in results:
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
