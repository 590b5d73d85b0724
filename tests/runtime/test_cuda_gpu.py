"""Does a real GPU do what the stand-in does?  Numerics, compute-sanitizer and timings.

Without one the tests are skipped and say what is missing, but for those that run the same cases on
the stand-in: so what would be run on a GPU has been run. `test_contract.py` has the ops' samples.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphc.runtime import cuda, cuda_device, cuda_driver
from tests.cuda_emulator import emulator
from tests.runtime import cuda_cases

ROOT = Path(__file__).resolve().parents[2]
MISSING = cuda.missing()
gpu_required = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("cuda.bindings", reason="the stand-in uses the types of cuda-bindings")
    from tests.runtime import fake_cuda

    bindings = fake_cuda.fake()
    monkeypatch.setattr(cuda_driver, "bindings", lambda: bindings)
    monkeypatch.setattr(cuda_device, "_DEVICES", {})
    monkeypatch.setattr(cuda, "missing", list)
    yield bindings.driver


@emulator.required
@pytest.mark.parametrize("name", cuda_cases.CASES)
def test_the_cases_are_right_on_the_stand_in(name: str, stand_in: Any) -> None:
    cuda_cases.check(name, n=19)
    assert stand_in.launches


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


@gpu_required
def test_timings(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not judged: `python -m tests.runtime.cuda_cases --seconds` is the command."""
    cuda_cases.main(["--seconds"])
    text = capsys.readouterr().out
    assert text.count("microseconds") == len(cuda_cases.CASES)
    with capsys.disabled():
        print(f"\n{text}")
