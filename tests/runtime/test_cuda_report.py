"""Is what the report says of a GPU program so?  Occupancy against NVIDIA's calculator, the
instructions against a disassembly, bytes and launches against the model.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import graphc as gx
from graphc import cli
from graphc.codegen.cuda.occupancy import MULTIPROCESSORS, occupancy
from graphc.runtime.cuda import compile as cuda_compile
from graphc.runtime.cuda import disassembly as cuda_disassembly
from graphc.runtime.cuda.report import CudaReport
from tests.codegen.cuda_toolkit import include_folder
from tests.cuda_emulator import nvrtc

_CALCULATOR = """
#include <cstdio>
#include <cuda_occupancy.h>
int main()
{
    int arch, threads, warps, registers, shared, all_shared, reserved;
    while (std::scanf("%d %d %d %d %d %d %d", &arch, &threads, &registers, &shared, &warps,
                      &all_shared, &reserved) == 7) {
        cudaOccDeviceProp device = {};
        device.computeMajor = arch / 10;
        device.computeMinor = arch % 10;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = 32 * warps;
        device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.warpSize = 32;
        device.sharedMemPerBlock = 48 << 10;
        device.sharedMemPerMultiprocessor = all_shared;
        device.numSms = 100;
        device.sharedMemPerBlockOptin = all_shared - reserved;
        device.reservedSharedMemPerBlock = reserved;
        cudaOccFuncAttributes kernel = {};
        kernel.maxThreadsPerBlock = 1024;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = shared;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = 0;
        cudaOccDeviceState state = {};
        state.cacheConfig = CACHE_PREFER_SHARED;
        state.carveoutConfig = 100;
        cudaOccResult result;
        cudaOccError error =
            cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, 0);
        std::printf("%d %d\\n", int(error), result.activeBlocksPerMultiprocessor);
    }
}
"""


@pytest.mark.skipif(
    include_folder("cuda_occupancy.h") is None or shutil.which("g++") is None,
    reason="cuda_occupancy.h (nvidia-cuda-runtime) or g++ is not installed",
)
def test_occupancy_is_that_of_the_calculator(tmp_path: Path) -> None:
    source, program = tmp_path / "calculator.cpp", tmp_path / "calculator"
    source.write_text(_CALCULATOR)
    folder = include_folder("cuda_occupancy.h")
    command = ["g++", "-O1", f"-I{folder}", "-o", str(program), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    threads, registers = (32, 96, 128, 256, 512, 1000, 1024), (16, 32, 40, 63, 64, 100, 128, 255)
    cases = [
        case
        for case in itertools.product(
            MULTIPROCESSORS, threads, registers, (0, 1, 4096, 17408, 49152)
        )
        if case[1] * case[2] <= 1 << 16
    ]
    lines = [
        f"{a} {t} {r} {s} {m.warps} {m.shared_bytes} {m.reserved_bytes}"
        for a, t, r, s in cases
        for m in [MULTIPROCESSORS[a]]
    ]
    done = subprocess.run(
        [str(program)], input="\n".join(lines), check=True, capture_output=True, text=True
    )
    for case, line in zip(cases, done.stdout.splitlines(), strict=True):
        error, blocks = map(int, line.split())
        found = occupancy(*case)
        assert error == 0 and found is not None and found.blocks == blocks, (case, found, line)


def test_an_unknown_architecture_has_no_occupancy() -> None:
    assert occupancy(999, 256, 32, 0) is None
    found = occupancy(90, 256, 63, 17408)
    assert found is not None and (found.blocks, found.limit, found.share) == (4, "registers", 0.5)


def _softmax() -> Any:
    x = gx.symbol("x", ("n", 1024), "float32")
    return gx.emit([x], [gx.softmax(x, axis=1)], target="cuda")


@nvrtc.required
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_the_report_of_a_program(arch: str) -> None:
    report = _softmax().report(arch, n=4096)
    assert (report.launches, report.ideal_bytes) == (1, 2 * 4096 * 1024 * 4)
    assert report.of_ideal == pytest.approx(1.0, abs=0.02)
    [kernel] = report.kernels
    assert kernel.usage is not None and kernel.usage.registers > 0
    assert kernel.occupancy is not None and kernel.occupancy.blocks > 0
    text = str(report)
    assert "not run on a GPU" in text and "test_cuda_report.py" in text
    assert "1 launches, 33.6 MB modelled, 1.00 of the ideal" in text
    if cuda_disassembly.reason_missing():
        assert "no instruction counts: nvdisasm" in text
        pytest.skip(cuda_disassembly.reason_missing())
    assert kernel.mix is not None and kernel.mix.counts["shuffle"] > 0
    assert kernel.mix.wide > 0 and "local" not in kernel.mix.counts  # packs, and no spills


@nvrtc.required
def test_extents_that_are_not_known_stay_formulas() -> None:
    report = _softmax().report("sm_90")
    assert report.bytes is None and report.of_ideal is None
    assert str(report.ideal_bytes) == "8192*n" and "moves 8192*n bytes" in str(report)


def test_launches_that_need_not_wait_are_told() -> None:
    x = [gx.symbol(f"x{i}", ("n", 8), "float32") for i in range(2)]
    ends = [gx.scan(lambda s, row: (gx.tanh(s + row), s.sum()), each[0], each)[0] for each in x]
    program = gx.emit(x, [*ends, ends[0] * ends[1]], target="cuda")
    report = CudaReport.of(program, "sm_90", None, sizes=dict.fromkeys(program.plan.sizes, 4))
    assert report.in_turn is not None and report.launches is not None
    assert 1 < report.in_turn < report.launches
    assert f"{report.launches} launches ({report.in_turn} one after the other)" in str(report)
    assert CudaReport.of(program, "sm_90", None).in_turn is None


def test_a_missing_compiler_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise ImportError("no module named cuda")

    monkeypatch.setattr(cuda_compile.cuda_driver, "bindings", refuse)
    report = _softmax().report("sm_90", n=8)
    assert report.kernels[0].usage is None and "not compiled: no module" in str(report)


def test_loops_choices_and_calls_are_counted() -> None:
    x = gx.symbol("x", (4, 8), "float32")
    state, _ = gx.scan(lambda s, row: (gx.tanh(s + row), s), x[0], x)
    grown = gx.while_loop(lambda s: s.sum() < 100.0, lambda s: s * s + 2.0, state)
    chosen = gx.cond(grown.sum() > 3.0, lambda a: a + 1, lambda a: a - 1, grown)
    program = gx.emit([x], [chosen, gx.call(lambda a: gx.softmax(a, axis=1), x)], target="cuda")
    report = CudaReport.of(program, "sm_90", None, sizes={})
    assert report.launches == program.totals({}).launches
    assert {kernel.name for kernel in report.kernels} == {k.name for k in program.kernels}
    assert all(kernel.launches for kernel in report.kernels)


_DISASSEMBLY = """
.text.one:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/                   LDG.E R4, desc[UR4][R2.64] ;
.L_x_1:
        /*0030*/              @P0  FFMA R0, R1, R2, R3 ;
        /*0040*/                   NOP;
        /*0050*/              @UP1 UIADD3 UR4, UR4, 0x1, URZ ;
.text.two:
        /*0000*/                   EXIT ;
"""


def test_instructions_are_counted_by_class() -> None:
    found = cuda_disassembly.counted(_DISASSEMBLY)
    assert found["one"].counts == {"load": 2, "constant": 1, "float32": 1, "integer": 1}
    assert (found["one"].wide, found["two"].counts) == (1, {"control": 1})
    assert "1 of 2 loads and stores are of 16 bytes" in str(found["one"])


@nvrtc.required
def test_show_in_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = gx.symbol("x", ("rows", 64), "float32")
    gx.save(tmp_path / "g.json", [gx.softmax(x, axis=1)])
    command = ["show", str(tmp_path / "g.json"), "--target", "cuda"]
    assert cli.main([*command, "--arch", "sm_80", "--size", "rows=100"]) == 0
    out = capsys.readouterr().out
    assert "<<<" in out and "for sm_80" in out and "registers" in out and "1 launches" in out
    for wrong, said in (
        (["--size", "rows"], "NAME=N"),
        (["--size", "n=3"], "no dimension 'n'; it has ['rows']"),
        (["--arch", "90"], "like sm_90"),
    ):
        assert cli.main([*command, *wrong]) == 1
        assert said in capsys.readouterr().err


