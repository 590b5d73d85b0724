"""How does a C++ program run the kernels without graphc?  A launcher, and a header to include.

`NAME.cu` holds the kernels and the plan as a function that launches them in order on a stream;
`NAME.h` declares it and says what it takes. It needs the CUDA runtime and nothing else, allocates
nothing, and waits for the device only where data decide what is launched next: in loops that end
when a condition is false, and in choices. Constants are part of the translation unit.

Compile it with -fmad=false. The tests compile and link it with nvcc, and run it with its kernels on
a CPU emulator; it has not run on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.codegen.clike import comment
from graphc.codegen.cuda.plan import (
    Argument,
    CallStep,
    KernelStep,
    LoopStep,
    Place,
    Plan,
    Size,
    Status,
    Step,
    SwitchStep,
    WhileStep,
)
from graphc.dims import Compound, Dim, Extent, substitute

if TYPE_CHECKING:
    from graphc.codegen.cuda.program import CudaProgram

# Bytes of one constant that can be written out as text.
MOST_CONSTANT_BYTES = 1 << 22

_HEADER = """\
// {name}, launched on a stream. Written by graphc, whose tests compile and link such files and run
// them on a CPU emulator; not run on a GPU.
#pragma once

#include <cstddef>
#include <cuda_runtime.h>

// Bytes of scratch on the device that one call needs.
std::size_t {name}_arena_bytes({sizes});

// Launches all kernels of one call on `stream`; returns the first error of a launch. Arrays are on
// the device, in C order, and begin at multiples of 16 bytes; outputs do not overlap with inputs.
{listed}
// `status` are three words on the device that are 0 before the call. After it the first is 0, or
// the code of the first check that failed: 1 an index out of range, 3 a check of the graph, 4 a
// division of integers by 0, 7 an unfit matrix; then its number and the index.
cudaError_t {name}(
    {parameters});
"""

_LAUNCHER = """\
#include "{name}.h"

{kernels}
// -- the host ------------------------------------------------------------------------------------

namespace {{

[[maybe_unused]] long long floor_div(long long a, long long b)
{{
    const long long quotient = a / b;
    return quotient - (a % b != 0 && (a < 0) != (b < 0));
}}

[[maybe_unused]] long long floor_mod(long long a, long long b) {{ return a - floor_div(a, b) * b; }}
[[maybe_unused]] long long least(long long a, long long b) {{ return a < b ? a : b; }}
[[maybe_unused]] long long most(long long a, long long b) {{ return a > b ? a : b; }}

// What a kernel has left at an address: for this the host waits.
template <typename T> cudaError_t fetch(T* value, const void* from, cudaStream_t stream)
{{
    const cudaError_t error =
        cudaMemcpyAsync(value, from, sizeof(T), cudaMemcpyDeviceToHost, stream);
    return error != cudaSuccess ? error : cudaStreamSynchronize(stream);
}}

#define TRY(call) \\
    do {{ \\
        const cudaError_t error = (call); \\
        if (error != cudaSuccess) return error; \\
    }} while (0)

{procedures}
}}  // namespace

std::size_t {name}_arena_bytes({sizes})
{{
    {unused}return {arena};
}}

cudaError_t {name}(
    {parameters})
{{
{constants}    char* const inputs[] = {{{inputs}}};
    char* const outputs[] = {{{outputs}}};
    return {main}(inputs, outputs, constants, (char*)arena, status, stream{given});
}}
"""


def launcher(program: CudaProgram, input_names: Sequence[str]) -> tuple[str, str]:
    """The texts of `NAME.cu` and `NAME.h`. Raises ValueError for a constant that is too large."""
    return _Launcher(program, input_names).texts()


class _Launcher:
    def __init__(self, program: CudaProgram, input_names: Sequence[str]) -> None:
        self.program = program
        self.name = _word(program.name)
        self.plan = program.plan
        self.input_names = _distinct([_word(name) for name in input_names])
        self.numbers: dict[int, int] = {}
        self.plans: list[Plan] = []
        self.note(program.plan)
        self.variables = 0

    def note(self, plan: Plan) -> None:
        """Number a plan, after those that it calls."""
        if id(plan) in self.numbers:
            return
        for called in _called(plan.steps):
            self.note(called)
        self.numbers[id(plan)] = len(self.plans)
        self.plans.append(plan)

    def texts(self) -> tuple[str, str]:
        plan, name = self.plan, self.name
        output_names = [f"result{i}" for i in range(len(plan.outputs))]
        words = [_word(self.program.dims.get(size, size)) for size in plan.sizes]
        users = _distinct(words, (*self.input_names, *output_names))
        said = {own: Dim.symbol(user) for own, user in zip(plan.sizes, users, strict=True)}
        sizes = [f"long long {user}" for user in users]
        parameters = [
            *(f"const void* {each}" for each in self.input_names),
            *(f"void* {each}" for each in output_names),
            *sizes,
            "void* arena",
            "unsigned long long* status",
            "cudaStream_t stream",
        ]
        listed = [
            f"//   {each}: {type_.dtype.name}"
            f"[{', '.join(str(substitute(extent, said)) for extent in type_.shape)}]"
            for each, type_ in zip(
                (*self.input_names, *output_names), (*plan.inputs, *plan.outputs), strict=True
            )
        ]
        common = {
            "name": name,
            "sizes": ", ".join(sizes) or "void",
            "parameters": ",\n    ".join(parameters),
        }
        header = _HEADER.format(listed="\n".join(map(comment_line, listed)), **common)
        source = _LAUNCHER.format(
            kernels=self.program.text + "\n" + "\n".join(self.constant_arrays()),
            procedures="\n".join(map(self.procedure, self.plans)),
            arena=_extent(substitute(plan.arena_bytes, said)),
            unused="".join(f"(void){user}; " for user in users),
            constants="".join(self.constant_addresses()),
            inputs=", ".join(f"(char*){each}" for each in self.input_names) or "nullptr",
            outputs=", ".join(f"(char*){each}" for each in output_names) or "nullptr",
            main=self.function_name(plan),
            given="".join(f", {user}" for user in users),
            **common,
        )
        return source, header

    # -- constants ---------------------------------------------------------------------------------

    def constant_arrays(self) -> Iterator[str]:
        for number, array in enumerate(self.program.constants):
            content = np.ascontiguousarray(array).tobytes()
            if len(content) > MOST_CONSTANT_BYTES:
                raise ValueError(
                    f"a constant of {len(content)} bytes cannot be written into a launcher "
                    f"({MOST_CONSTANT_BYTES} at most): make it an input of the graph"
                )
            words = np.frombuffer(content + bytes(-len(content) % 4), np.uint32)
            text = ", ".join(f"0x{word:x}u" for word in words.tolist()) or "0u"
            size = max(len(words), 1)
            yield (
                f"static __device__ __align__(16) const unsigned constant{number}[{size}] = "
                f"{{{text}}};"
            )

    def constant_addresses(self) -> Iterator[str]:
        count = len(self.program.constants)
        yield f"    void* constants[{max(count, 1)}] = {{}};\n"
        for number in range(count):
            yield f"    TRY(cudaGetSymbolAddress(&constants[{number}], constant{number}));\n"

    # -- steps -------------------------------------------------------------------------------------

    def function_name(self, plan: Plan) -> str:
        return f"run{self.numbers[id(plan)]}"

    def procedure(self, plan: Plan) -> str:
        sizes = "".join(f", long long {_word(size)}" for size in plan.sizes)
        head = (
            f"cudaError_t {self.function_name(plan)}(\n"
            "    char* const* inputs, char* const* outputs, void* const* constants, char* arena,\n"
            f"    unsigned long long* status, cudaStream_t stream{sizes})"
        )
        lines = [f"    {line}" for line in self.steps(plan.steps)]
        unused = "(void)inputs, (void)outputs, (void)constants, (void)arena, (void)status;"
        return "\n".join([head, "{", f"    {unused}", *lines, "    return cudaSuccess;", "}", ""])

    def steps(self, steps: Sequence[Step]) -> Iterator[str]:
        for step in steps:
            yield from self.step(step)

    def step(self, step: Step) -> Iterator[str]:
        if isinstance(step, KernelStep):
            yield from self.launch(step)
        elif isinstance(step, LoopStep):
            variable, length = _word(step.variable), _extent(step.length)
            head = f"long long {variable} = 0; {variable} < {length}; ++{variable}"
            if step.reverse:
                head = f"long long {variable} = {length} - 1; {variable} >= 0; --{variable}"
            yield f"for ({head}) {{"
            yield from self.indented(step.steps)
            yield "}"
        elif isinstance(step, SwitchStep):
            name = self.fresh("choice")
            yield f"long long {name} = 0;"
            yield f"TRY(fetch(&{name}, {self.place(step.index)}, stream));"
            last = len(step.branches) - 1
            for number, branch in enumerate(step.branches):
                test = f"{name} <= 0" if number == 0 else f"{name} == {number}"
                test = "" if number == last else f"if ({test}) "
                yield f"{'} else ' if number else ''}{test}{{"
                yield from self.indented(branch)
            yield "}"
        elif isinstance(step, CallStep):
            yield from self.call(step)
        else:
            name, failed = self.fresh("more"), self.fresh("failed")
            yield "for (;;) {"
            yield from self.indented(step.test)
            yield f"    unsigned char {name} = 0;"
            yield f"    unsigned long long {failed} = 0;"
            yield f"    TRY(fetch(&{name}, {self.place(step.condition)}, stream));"
            yield f"    TRY(fetch(&{failed}, status, stream));"
            yield f"    if ({name} == 0 || {failed} != 0) break;"
            yield from self.indented(step.steps)
            yield "}"

    def indented(self, steps: Sequence[Step]) -> Iterator[str]:
        for line in self.steps(steps):
            yield "    " + line

    def launch(self, step: Any) -> Iterator[str]:
        kernel = next(k for k in self.program.kernels if k.name == step.kernel)
        arguments = [
            self.argument(argument, parameter.type)
            for argument, parameter in zip(step.arguments, kernel.parameters, strict=True)
        ]
        call = f"{step.kernel}<<<(unsigned){{}}, {step.block}, 0, stream>>>"
        listed = ",\n        ".join(arguments)
        indent = ""
        if isinstance(step.grid, int):
            if step.grid == 0:
                return
            blocks = str(step.grid)
        else:
            blocks, indent = self.fresh("blocks"), "    "
            yield f"const long long {blocks} = {_extent(step.grid)};"
            yield f"if ({blocks} > 0) {{"
        for line in f"{call.format(blocks)}(\n        {listed});".split("\n"):
            yield indent + line
        yield f"{indent}TRY(cudaGetLastError());"
        if indent:
            yield "}"

    def call(self, step: Any) -> Iterator[str]:
        count = len(step.plan.inputs)
        places = [self.place(place) for place in step.operands]
        inputs, outputs = self.fresh("inputs"), self.fresh("outputs")
        for name, listed in ((inputs, places[:count]), (outputs, places[count:])):
            yield f"char* const {name}[] = {{{', '.join(listed) or 'nullptr'}}};"
        sizes = "".join(f", {_extent(step.sizes[size])}" for size in step.plan.sizes)
        arguments = f"{inputs}, {outputs}, constants, {self.place(step.arena)}, status, stream"
        yield f"TRY({self.function_name(step.plan)}({arguments}{sizes}));"

    def argument(self, argument: Argument, type_: str) -> str:
        if isinstance(argument, Status):
            return "status"
        if isinstance(argument, Size):
            return _extent(argument.extent)
        if not isinstance(argument, Place):
            raise ValueError("a launcher takes contiguous arrays only")
        pointer = type_.replace(" __restrict__", "")
        return f"({pointer})({self.place(argument)})"

    def place(self, place: Place) -> str:
        bases = {
            "arena": "arena",
            "input": f"inputs[{place.index}]",
            "output": f"outputs[{place.index}]",
            "constant": f"(char*)constants[{place.index}]",
        }
        base = bases[place.space]
        return base if place.offset == 0 else f"{base} + {_extent(place.offset)}"

    def fresh(self, prefix: str) -> str:
        self.variables += 1
        return f"{prefix}{self.variables}"


def _called(steps: Sequence[Step]) -> Iterator[Plan]:
    for step in steps:
        if isinstance(step, CallStep):
            yield step.plan
        elif isinstance(step, LoopStep):
            yield from _called(step.steps)
        elif isinstance(step, WhileStep):
            yield from _called((*step.test, *step.steps))
        elif isinstance(step, SwitchStep):
            for branch in step.branches:
                yield from _called(branch)


def comment_line(line: str) -> str:
    """A line that is a comment already, without what would end it."""
    return "//" + comment(line.removeprefix("//"))


_WORDS = """
    arena status stream inputs outputs constants least most fetch floor_div floor_mod
    auto bool break case char class const continue default delete do double else enum float for if
    int long namespace new operator private public register return short signed sizeof static struct
    switch template this typename union unsigned using void while
"""
_KEYWORDS = frozenset(_WORDS.split())


def _word(name: str) -> str:
    """A name as an identifier of C++."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not word or not (word[0].isalpha() or word[0] == "_") or word in _KEYWORDS:
        word = f"x_{word}"
    return word


def _distinct(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """The names, numbered where one comes again or is taken."""
    found: list[str] = []
    for name in names:
        number, fresh = 1, name
        while fresh in found or fresh in taken:
            number += 1
            fresh = f"{name}_{number}"
        found.append(fresh)
    return found


def _extent(extent: Extent) -> str:
    """An extent as an expression on long long."""
    if isinstance(extent, int):
        return f"{extent}LL"
    terms = []
    for monomial, coefficient in extent.terms:
        factors = [f"{coefficient}LL"] if coefficient != 1 or not monomial else []
        factors += [_atom(atom) for atom, power in monomial for _ in range(power)]
        terms.append(" * ".join(factors))
    return f"({' + '.join(terms)})"


def _atom(atom: str | Compound) -> str:
    if isinstance(atom, str):
        return _word(atom)
    texts = [_extent(argument) for argument in atom.arguments]
    function = {"floordiv": "floor_div", "mod": "floor_mod", "min": "least", "max": "most"}
    text = texts[0]
    for other in texts[1:]:
        text = f"{function[atom.operator]}({text}, {other})"
    return text


__all__ = ["launcher"]
