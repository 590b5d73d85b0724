"""Are the calls that graphc makes of cuda-bindings calls that it has?

The stand-in for the driver shows what the runtime asks; here the installed bindings say whether
they would take it. Without a driver a call of theirs converts its arguments and only then finds
that there is none, so each kind of call that a workload makes is made of the real function as well.
"""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.runtime.cuda import compile as compiling
from graphc.runtime.cuda import device as cuda_device
from graphc.runtime.cuda import driver as cuda_driver
from tests.cuda_emulator import emulator, nvrtc

pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
from cuda.bindings import driver as real
from cuda.bindings import nvrtc as real_nvrtc

from tests.runtime import fake_cuda


def _named(module: Any, pattern: str) -> set[str]:
    source = Path(module.__file__).read_text()
    return set(re.findall(rf'"({pattern}[A-Z]\w+)"', source))


DRIVER_CALLS = sorted(_named(cuda_driver, "cu"))


def documented_values(function: Any) -> list[str]:
    """What the bindings say a function returns besides its status."""
    lines = function.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "Returns")
    margin = lines[start].index("R")
    section = itertools.takewhile(str.strip, lines[start + 2 :])
    found = [line.strip() for line in section if not line[margin:].startswith(" ")]
    assert found[0].startswith("CUresult"), found
    return found[1:]


@pytest.mark.parametrize("name", DRIVER_CALLS)
def test_the_stand_in_has_the_signature_of_the_bindings(name: str) -> None:
    function = getattr(real, name)
    wanted = len(inspect.signature(function).parameters)
    stand_in = inspect.signature(getattr(fake_cuda.FakeDriver, f"_{name}"))
    assert any(p.kind is p.VAR_POSITIONAL for p in stand_in.parameters.values()) or (
        len(stand_in.parameters) == wanted + 1
    )


def test_attributes_and_flags_are_there() -> None:
    source = Path(cuda_driver.__file__).read_text()
    for group, name in re.findall(r"self\.api\.(CU\w+)\.(CU_\w+)", source):
        assert hasattr(getattr(real, group), name), name
    for name in fake_cuda.ATTRIBUTES:
        assert hasattr(real.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    for name in ("MAX_THREADS_PER_BLOCK", "SHARED_SIZE_BYTES"):
        assert hasattr(real.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
    for name in (*cuda_driver._STICKY, cuda_driver._OUT_OF_MEMORY, cuda_driver._NOT_READY):
        assert hasattr(real.CUresult, name), name
    assert int(real.CUresult.CUDA_SUCCESS) == 0


def _works_without_a_driver() -> bool:
    try:
        real.cuInit(0)
    except RuntimeError:
        return True
    return False


@emulator.required
def test_the_bindings_take_every_call_of_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_cuda.put_in_place(monkeypatch)
    x, i = gx.symbol("x", ("n", 4), "float32"), gx.symbol("i", (2,), "int64")
    y = gx.softmax(x @ x.T, axis=1) @ x
    function = gx.compile(
        [x, i], [gx.take(y, i, axis=0), y], target="cuda", options=gx.Options(cache=False)
    )
    array, index = np.ones((8, 4), "f4"), np.array([0, 1])
    for _ in range(3):
        function(array, index)
    given = gpu.array(array)
    given.stream = fake_cuda.PER_THREAD
    result = function(given, index)[1]
    result.__dlpack__(stream=fake_cuda.LEGACY)
    function(given, index, out=(None, given))
    gpu.fail("cuStreamEndCapture", "UNKNOWN", nth=1)
    function(array[:3], index), function(array[:3], index)
    with pytest.raises(IndexError):
        function(array, index + 100)
    device = cuda_device.device(0)
    capture = device.driver.captured(device.capture_streams[0])
    with device.in_use(), pytest.raises(RuntimeError), capture:
        raise RuntimeError
    with pytest.raises(MemoryError):  # after a wait for everything
        function.to_device(np.empty(2 * fake_cuda.MEMORY_BYTES, "u1"))
    del function, result
    with device.in_use():
        device.tidy()
    made = {name for name, *_ in gpu.seen}
    assert made == set(DRIVER_CALLS), set(DRIVER_CALLS) ^ made
    for (name, *_), values in gpu.returned.items():
        assert len(values) == len(documented_values(getattr(real, name))), name
    if not _works_without_a_driver():
        pytest.skip("there is a driver: its calls are those of test_cuda_device.py")
    for (name, *types), arguments in gpu.seen.items():
        with pytest.raises(RuntimeError) as error:  # there is no library, and that is all
            getattr(real, name)(*arguments)
        assert "NotFound" in type(error.value).__name__, (name, types, error.value)


@pytest.mark.parametrize("name", sorted(_named(compiling, "nvrtc")))
def test_nvrtc_has_what_is_called(name: str) -> None:
    assert callable(getattr(real_nvrtc, name)) and hasattr(fake_cuda.FakeNvrtc, f"_{name}")


@nvrtc.required
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "compute_100"])
def test_nvrtc_compiles_what_the_runtime_asks(arch: str, tmp_path: Path) -> None:
    from graphc.runtime.cache import Cache

    x = gx.symbol("x", ("n", 64), "float32")
    text = gx.emit([x], [gx.softmax(x, axis=1)], target="cuda").code
    cache = Cache(tmp_path)
    code = compiling.compiled(text, arch, cache)
    again = compiling.compiled(text, arch, cache)
    assert cache.stats.hits == 1
    assert (again.image, again.usage, again.arch) == (code.image, code.usage, arch)
    if arch.startswith("sm"):
        assert code.image.startswith(b"\x7fELF")
        [usage] = code.usage.values()
        assert usage.registers > 0 and usage.spill_stores == usage.spill_loads == 0
    else:
        assert code.image.endswith(b"\0") and b".target sm_100" in code.image


@nvrtc.required
def test_nvrtc_refuses_in_its_own_words() -> None:
    from graphc.errors import CompileError

    with pytest.raises(CompileError, match='identifier "y" is undefined'):
        compiling.compiled('extern "C" __global__ void f(float* x) { *x = y; }', "sm_90", None)
    large = 'extern "C" __global__ void f(float* x) { __shared__ float s[20000]; '
    large += "s[threadIdx.x] = *x; __syncthreads(); *x = s[threadIdx.x * 7 % 19999]; }"
    with pytest.raises(CompileError) as error:
        compiling.compiled(large, "sm_90", None)
    assert "too much shared data" in str(error.value) and len(str(error.value).splitlines()) == 2


@nvrtc.required
def test_architectures_are_chosen_by_the_device() -> None:
    from graphc.errors import CompileError

    known = compiling.supported()
    assert compiling.architecture((9, 0)) == "sm_90"
    assert compiling.architecture((99, 0)) == f"compute_{known[-1]}"
    assert compiling.architecture((8, 8)) in ("sm_88", "sm_87", "sm_86")  # what is older runs there
    with pytest.raises(CompileError, match="sm_52"):
        compiling.architecture((5, 2))


def test_an_entry_of_another_format_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from graphc.runtime.cache import Cache

    bindings = fake_cuda.fake()
    monkeypatch.setattr(cuda_driver, "bindings", lambda: bindings)
    cache = Cache(tmp_path)
    text = 'extern "C" __global__ void f() {}'
    code = compiling.compiled(text, "sm_90", cache)
    for wrong in (b"no head", b'{"arch": "sm_90"}' + bytes(1)):
        cache.put(compiling._key(text, "sm_90", compiling.OPTIONS), wrong)
        assert compiling.compiled(text, "sm_90", cache) == code


def test_nvrtc_that_is_missing_or_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from graphc.errors import CompileError

    bindings = fake_cuda.fake()
    monkeypatch.setattr(cuda_driver, "bindings", lambda: bindings)
    monkeypatch.setattr(fake_cuda.FakeNvrtc, "_nvrtcVersion", lambda self: (1, None, None))
    with pytest.raises(CompileError, match="nvrtcVersion: NVRTC_ERROR_OUT_OF_MEMORY"):
        compiling.version()

    def refuse(self: Any) -> Any:
        raise RuntimeError("libnvrtc.so was not found")

    monkeypatch.setattr(fake_cuda.FakeNvrtc, "_nvrtcVersion", refuse)
    with pytest.raises(CompileError, match="NVRTC is not installed: pip install nvidia-cuda-nvrtc"):
        compiling.version()
