"""How do tests run the C++ launcher without a GPU?  Compiled by g++ with the kernels beside it, and
with the few functions of the CUDA runtime that it calls.

The text is that which nvcc gets, but for what g++ cannot read: `kernel<<<blocks, threads, 0,
stream>>>(arguments)` becomes a call that hands the arguments to the emulator.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.codegen.cuda.program import CudaProgram
from graphc.dims import evaluate
from tests.cuda_emulator import emulator

_RUNTIME = """
#include <cstring>
typedef int cudaError_t;
typedef void* cudaStream_t;
enum { cudaSuccess = 0, cudaErrorLaunchFailure = 719, cudaMemcpyDeviceToHost = 2 };
static int launch_errors = 0, launches = 0;
static cudaError_t cudaGetLastError()
{
    const int errors = launch_errors;
    launch_errors = 0;
    return errors ? cudaErrorLaunchFailure : cudaSuccess;
}
static cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, cudaStream_t)
{
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}
static cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
template <typename T> cudaError_t cudaGetSymbolAddress(void** address, const T& symbol)
{
    *address = const_cast<void*>(static_cast<const void*>(&symbol));
    return cudaSuccess;
}
extern "C" int emulator_launch(void (*)(void**), void**, const unsigned*, const unsigned*, size_t,
                               int, unsigned long long, double);
template <typename... Types, typename... Arguments>
void launched(void (*)(Types...), void (*call)(void**), unsigned blocks, unsigned threads,
              Arguments... arguments)
{
    static_assert(sizeof...(Types) == sizeof...(Arguments));
    // each argument is converted to its parameter, as in a call
    auto pass = [&](Types... values) {
        void* addresses[] = {(void*)&values..., nullptr};
        const unsigned grid[3] = {blocks, 1, 1}, block[3] = {threads, 1, 1};
        launches += 1;
        launch_errors += emulator_launch(call, addresses, grid, block, 0, 0, 0, 60.0);
    };
    pass(arguments...);
}
"""

_LAUNCH = re.compile(r"(\w+)<<<\(unsigned\)(\w+), (\d+), 0, stream>>>\(")


def host_module(program: CudaProgram) -> emulator.Module:
    """The launcher and the kernels of a program, compiled for the CPU."""
    source, header = program.host()
    names = [kernel.name for kernel in program.kernels]
    declared = "".join(f'extern "C" void {name}__call(void**);\n' for name in names)
    count = len(program.plan.inputs) + len(program.plan.outputs)
    sizes = len(program.plan.sizes)
    passed = [f"arrays[{i}]" for i in range(count)] + [f"sizes[{i}]" for i in range(sizes)]
    name = re.search(r"^cudaError_t (\w+)\($", header, re.MULTILINE)
    assert name is not None
    listed = ", ".join(f"sizes[{i}]" for i in range(sizes))
    entry = f"""
EMULATOR_EXPORT int host__run(void** arrays, long long* sizes, void* arena, void* status)
{{
    (void)sizes;
    launches = 0;
    const cudaError_t error = {name[1]}({", ".join(passed)}, arena, (unsigned long long*)status, 0);
    return error ? -error : launches;
}}
EMULATOR_EXPORT unsigned long long host__arena(long long* sizes)
{{
    (void)sizes;
    return {name[1]}_arena_bytes({listed});
}}
"""
    text = re.sub(r"^#include .*$", "", source, flags=re.MULTILINE)
    head = re.sub(r"^#(include|pragma) .*$", "", header, flags=re.MULTILINE)
    text = _LAUNCH.sub(r"launched(\1, \1__call, \2, \3, ", text)
    return emulator.compile("\n".join([_RUNTIME, declared, head, text, entry]), names)


def run(
    program: CudaProgram, inputs: Sequence[np.ndarray], sizes: Mapping[str, int]
) -> tuple[list[np.ndarray], tuple[int, int, int], int]:
    """Outputs, the failing check (code, node, index), and launches of a call of the launcher."""
    library: Any = host_module(program)._loaded
    library.host__arena.restype = ctypes.c_ulonglong
    plan = program.plan
    extents = (ctypes.c_longlong * max(1, len(plan.sizes)))(*(sizes[s] for s in plan.sizes))
    given = [emulator.Buffer(np.ascontiguousarray(array)) for array in inputs]
    made = [
        emulator.Buffer.empty(tuple(evaluate(e, dict(sizes)) for e in type_.shape), type_.dtype)
        for type_ in plan.outputs
    ]
    arena = emulator.Buffer.empty(library.host__arena(extents), np.uint8)
    status = emulator.Buffer(np.zeros(3, np.int64))
    buffers = [*given, *made]
    addresses = (ctypes.c_void_p * len(buffers))(*(buffer.address for buffer in buffers))
    place, record = ctypes.c_void_p(arena.address), ctypes.c_void_p(status.address)
    done = library.host__run(addresses, extents, place, record)
    if done < 0:
        raise emulator.EmulationError(library.emulator_message().decode())
    for buffer, array in zip(given, inputs, strict=True):
        assert buffer.array.tobytes() == np.ascontiguousarray(array).tobytes()
        buffer.check("an input")
    for buffer in (*made, arena):
        buffer.check("an output or the arena")
    code, node, index = status.read().tolist()
    return [buffer.read() for buffer in made], (code, node, index), done


__all__ = ["host_module", "run"]
