"""Does a real GPU do what the stand-in does?  Numerics, compute-sanitizer and timings.

Without one the tests are skipped and say what is missing, but for those that run the same cases on
the stand-in: so what would be run on a GPU has been run. `test_contract.py` has the ops' samples.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.runtime.cuda import support as cuda
from tests.cuda_emulator import emulator
from tests.runtime import cuda_cases

ROOT = Path(__file__).resolve().parents[2]
MISSING = cuda.missing()
gpu_required = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))


@emulator.required
@pytest.mark.parametrize("name", cuda_cases.CASES)
def test_the_cases_are_right_on_the_stand_in(name: str, gpu: Any) -> None:
    cuda_cases.check(name, n=19)
    assert gpu.launches


@pytest.mark.slow
@emulator.required
def test_what_is_timed_runs_on_the_stand_in(
    gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda_cases.main(["--seconds"], n=17, calls=2)
    assert capsys.readouterr().out.count("microseconds") == len(cuda_cases.CASES)


@pytest.mark.slow
@emulator.required
def test_what_is_exchanged_runs_on_the_stand_in(gpu: Any) -> None:
    from tests.runtime import gpu_arrays

    stream = gpu.new_stream()

    class Tensor(gpu_arrays.TorchTensor):
        @property
        def T(self) -> Tensor:  # noqa: N802
            return Tensor(gpu, self._array.content.T, stream)

    library = cuda_cases.Library(
        make=lambda array: Tensor(gpu, array, stream),
        back=np.asarray,
        stream=stream,
        entered=contextlib.nullcontext,
    )
    cuda_cases.exchange(library)
    assert gpu.launches


def _torch() -> cuda_cases.Library:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    stream = torch.cuda.Stream()
    return cuda_cases.Library(
        make=lambda array: torch.from_numpy(array).cuda(),
        back=lambda result: torch.from_dlpack(result).cpu().numpy(),
        stream=stream.cuda_stream,
        entered=lambda: torch.cuda.stream(stream),
    )


def _cupy() -> cuda_cases.Library:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    stream = cupy.cuda.Stream(non_blocking=True)
    return cuda_cases.Library(
        make=cupy.asarray,
        back=lambda result: cupy.asarray(result).get(),
        stream=stream.ptr,
        entered=lambda: stream,
    )


@gpu_required
@pytest.mark.parametrize("library", [_torch, _cupy])
def test_arrays_of_libraries_on_a_gpu(library: Callable[[], cuda_cases.Library]) -> None:
    cuda_cases.exchange(library())


@gpu_required
@pytest.mark.parametrize("name", cuda_cases.CASES)
def test_the_cases_are_right_on_a_gpu(name: str) -> None:
    for n in (1, 33, 1000):
        cuda_cases.check(name, n)


@gpu_required
@pytest.mark.skipif(
    shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not installed"
)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck", "initcheck"])
def test_the_sanitizer_finds_nothing(tool: str) -> None:
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
    command += [sys.executable, "-m", "tests.runtime.cuda_cases"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "COMPUTE-SANITIZER" in done.stdout and done.stdout.count("right") == len(
        cuda_cases.CASES
    )


@gpu_required
def test_timings(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not judged: `python -m tests.runtime.cuda_cases --seconds` is the command."""
    cuda_cases.main(["--seconds"])
    text = capsys.readouterr().out
    assert text.count("microseconds") == len(cuda_cases.CASES)
    with capsys.disabled():
        print(f"\n{text}")
