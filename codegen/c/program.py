"""How is a program written as C?  One `.c` and one `.h`, that need nothing but <stdint.h>.

Each kernel is a static function (`kernel`), each procedure another, which calls them in order. In
front of them stand two public functions: one that takes everything by position, with the words of
decision 3, and one with typed arguments. The file allocates nothing, calls no library, keeps no
state: the caller brings a workspace. Sizes are arguments, constants are in the file.

Results have the bits of native code on the machine whose vectors the sums are arranged for, but for
products of matrices, whose sums run in order here and in blocks there.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.codegen.c.contract import CContractPrinter
from graphc.codegen.c.interface import CFunction, Interface, Signature, identifier
from graphc.codegen.c.kernel import CKernel, CKernelPrinter
from graphc.codegen.c.scalar import FEATURES, C
from graphc.codegen.clike import IndexPrinter, Level, memory_groups, remarks, spread
from graphc.codegen.extents import Axis
from graphc.codegen.loops import Contract
from graphc.codegen.program import (
    Call,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    Together,
    While,
)
from graphc.dims import Bounds, Dim, Extent

# Elements of a constant on one line.
LINE = 8
STOP_IF_FAILED = "if (status->code != 0) return status->code;"

@dataclass(frozen=True)
class CArray:
    """A buffer of a program: each axis is a number, or the number of the extent that it has.

    `strided` arrays come with strides of their own, others are C-contiguous.
    """

    name: str
    dtype: np.dtype[Any]
    axes: tuple[Axis, ...]
    strided: bool = False


@dataclass(frozen=True)
class CSource:
    """A graph as C: the text of `name.c` and of `name.h`, which documents the functions.

    `inputs` and `outputs` are the buffers in order, for whoever calls the functions from elsewhere;
    `extents` are the names of the free extents, `slots` counts all; `donated` are the inputs that
    may be the array of an output, each with it.
    """

    name: str
    source: str
    header: str
    inputs: tuple[CArray, ...]
    outputs: tuple[CArray, ...]
    extents: tuple[str, ...]
    slots: int
    donated: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return self.source

    @property
    def text(self) -> str:
        """The text of the `.c` file."""
        return self.source

    def save(self, folder: Any = ".") -> tuple[pathlib.Path, pathlib.Path]:
        """Write both files; returns their paths, the `.c` file first."""
        body, header = (pathlib.Path(folder) / f"{self.name}.{end}" for end in ("c", "h"))
        body.write_text(self.source, encoding="utf-8")
        header.write_text(self.header, encoding="utf-8")
        return body, header


def c_source(program: Program, signature: Signature, vector_bytes: int) -> CSource:
    """The C of a program that was lowered for one worker.

    Sums are arranged for vectors of `vector_bytes`.
    """
    return _Printer(program, signature, vector_bytes).files()


def product_scratch(contract: Contract, workers: int) -> Extent:
    """Bytes of scratch that a contraction needs: none, a tile of sums is on the stack."""
    return 0


# -- procedures ------------------------------------------------------------------------------------


class _ProcedurePrinter(IndexPrinter):
    """Writes one procedure."""

    DIALECT = C
    INTEGER = "int64_t"
    MINIMUM, MAXIMUM = "minimum", "maximum"

    def __init__(self, printer: _Printer, procedure: Procedure, sizes: Mapping[str, str]) -> None:
        super().__init__(Bounds({}))
        self.printer = printer
        self.procedure = procedure
        self.sizes = sizes
        self.used: set[Any] = set()
        self.helpers, self.conditions = printer.helpers, printer.conditions
        self.operand_names = [f"in{i}" for i in range(len(procedure.inputs))]
        self.operand_names += [f"out{i}" for i in range(len(procedure.outputs))]
        self.top = Level(None, 1, variables=dict(sizes))

    def mark_used(self, name: str) -> None:
        self.used.add(("size", name))

    def function(self, name: str) -> CFunction:
        self.statements(self.top, self.procedure.body)
        parameters: dict[Any, str] = {}
        storages = (*self.procedure.inputs, *self.procedure.outputs)
        for position, storage in enumerate(storages):
            const = "const " if storage.kind == "input" else ""
            type_ = C.memory_type(storage.dtype.name)
            parameters["operand", position] = f"{const}{type_} *{self.operand_names[position]}"
            for axis in range(len(storage.shape) if storage.strided else 0):
                parameters["stride", position, axis] = f"int64_t {self.stride(storage, axis)}"
        parameters |= {("size", size): f"int64_t {text}" for size, text in self.sizes.items()}
        parameters |= {"workspace": "char *workspace", "status": "graphc_status *status"}
        parameters = {key: text for key, text in parameters.items() if key in self.used}
        result = "int64_t" if "status" in parameters else "void"
        head = spread(f"static {result} {name}(", list(parameters.values()) or ["void"], ")")
        lines = self.top.lines
        if lines[-1:] == ["    " + STOP_IF_FAILED]:
            lines.pop()
        end = ["    return status->code;"] if "status" in parameters else []
        return CFunction(name, parameters, "\n".join([head, "{", *lines, *end, "}"]))

    # -- statements --------------------------------------------------------------------------------

    def statements(self, level: Level, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Launch):
                self.launch(level, statement)
            elif isinstance(statement, Loop):
                self.loop(level, statement)
            elif isinstance(statement, While):
                self.repeat(level, statement)
            elif isinstance(statement, Switch):
                self.choose(level, statement)
            elif isinstance(statement, Together):
                self.statements(level, statement.launches)
            elif isinstance(statement, Call):
                self.call(level, statement)
            else:
                raise NotImplementedError("launches are neither chained nor cut into blocks for C")

    def launch(self, level: Level, launch: Launch) -> None:
        kernel, words = self.printer.kernel(launch)
        operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))
        arguments = []
        for kind, item in words:
            if kind == "buffer":
                arguments.append(self.address(level, operands[id(item)]))
            elif kind == "extent":
                arguments.append(self.index(level, Dim.symbol(item)))
            elif kind == "stride":
                buffer, axis = item
                storage = operands[id(buffer)].storage
                self.used.add(("stride", storage.position, axis))
                arguments.append(self.stride(storage, axis))
            else:
                assert kind == "status", f"C has no {kind} of a kernel"
                arguments.append("status")
        self.put_call(level, kernel.name, arguments, kernel.can_fail)

    def stride(self, storage: Storage, axis: int) -> str:
        """The name of a stride of an input that has strides of its own."""
        return f"{self.operand_names[storage.position]}_stride{axis}"

    def call(self, level: Level, call: Call) -> None:
        callee = self.printer.functions[id(call.procedure)]
        arguments = []
        for key in callee.parameters:
            if key == "workspace":
                offset = 0 if call.scratch is None else call.scratch.offset
                arguments.append(self.moved(level, "workspace", offset))
                self.used.add("workspace")
            elif key == "status":
                arguments.append("status")
            elif key[0] == "operand":
                arguments.append(self.address(level, call.operands[key[1]]))
            else:
                arguments.append(self.index(level, call.sizes[key[1]]))
        self.put_call(level, callee.name, arguments, callee.can_fail)

    def put_call(self, level: Level, name: str, arguments: Sequence[str], can_fail: bool) -> None:
        level.put(spread(f"{name}(", arguments, ");", level.depth))
        if can_fail:
            self.used.add("status")
            level.put(STOP_IF_FAILED)

    def loop(self, level: Level, loop: Loop) -> None:
        variable = identifier(loop.variable)
        inside = level.inner({loop.variable: variable})
        length = self.index(level, loop.length)
        self.statements(inside, loop.body)
        head = f"int64_t {variable} = 0; {variable} < {length}; ++{variable}"
        if loop.reverse:
            head = f"int64_t {variable} = {length} - 1; {variable} >= 0; --{variable}"
        level.close(f"for ({head})", inside)

    def repeat(self, level: Level, loop: While) -> None:
        inside = level.inner({})
        self.statements(inside, loop.test)
        inside.put(f"if (!*{self.enclosed_address(inside, loop.condition)}) break;")
        self.statements(inside, loop.body)
        level.close("for (;;)", inside)

    def choose(self, level: Level, choice: Switch) -> None:
        block = level.inner({})
        which = self.fresh("which")
        block.put(f"const int64_t {which} = *{self.enclosed_address(block, choice.index)};")
        last = len(choice.branches) - 1
        for number, branch in enumerate(choice.branches):
            inside = block.inner({})
            self.statements(inside, branch)
            head = f"if ({which} {'<=' if number == 0 else '=='} {number})"
            if number == last:
                head = "" if last else "if (1)"
            block.close(f"{'else ' if number else ''}{head}".rstrip(), inside)
        level.close("", block)

    # -- memory ------------------------------------------------------------------------------------

    def enclosed_address(self, level: Level, operand: Operand) -> str:
        text = self.address(level, operand)
        return text if re.fullmatch(r"\w+", text) else f"({text})"

    def address(self, level: Level, operand: Operand) -> str:
        """The address of an operand's first element."""
        storage = operand.storage
        if storage.kind == "constant":
            return self.moved(level, self.printer.constant(storage), operand.offset)
        if storage.kind in ("temporary", "worker"):
            self.used.add("workspace")
            type_ = C.memory_type(storage.dtype.name)
            size = storage.dtype.itemsize
            place = self.moved(level, "workspace", storage.offset + operand.offset * size)
            # Every place is aligned, which no compiler can know of bytes.
            place = f"({place})" if " " in place else place
            return f"({type_} *)(void *){place}"
        self.used.add(("operand", storage.position))
        return self.moved(level, self.operand_names[storage.position], operand.offset)

    def moved(self, level: Level, base: str, offset: Extent) -> str:
        return base if offset == 0 else f"{base} + {self.index(level, offset)}"


# -- the files -------------------------------------------------------------------------------------


class _Printer:
    """Writes both files of a program."""

    def __init__(self, program: Program, signature: Signature, vector_bytes: int) -> None:
        self.program = program
        self.signature = signature
        self.vector_bytes = vector_bytes
        self.helpers: dict[str, str] = {}
        self.conditions: dict[str, set[str]] = {}
        self.kernels: dict[Any, CKernel] = {}
        self.functions: dict[int, CFunction] = {}
        self.constants: list[Storage] = []
        self.taken = {signature.name}  # all other names of the text end otherwise
        main = program.main
        self.given = {main.outputs[o]: main.inputs[i] for i, o in signature.donated.items()}

    def fresh_name(self, title: str) -> str:
        """A name for a static function, numbered."""
        base = identifier(title)
        number = 1
        while f"{base}_{number}" in self.taken:
            number += 1
        self.taken.add(f"{base}_{number}")
        return f"{base}_{number}"

    def kernel(self, launch: Launch) -> tuple[CKernel, tuple[tuple[str, Any], ...]]:
        """The kernel of a launch, printed once for equal texts, and the words of this one's frame.
        """
        groups = memory_groups(launch, 1, self.given)
        dims = self.signature.dims
        contract = isinstance(launch.kernel.nest, Contract)
        printer = CContractPrinter if contract else CKernelPrinter
        made = printer(launch.kernel, groups, dims, self.vector_bytes).function()
        key = made.title, made.parameters, made.body
        known = self.kernels.setdefault(key, made)
        if known is made:
            made.name = self.fresh_name(made.title)
            self.helpers |= {k: v for k, v in made.helpers.items() if k not in self.helpers}
            for helper, conditions in made.conditions.items():
                self.conditions.setdefault(helper, set()).update(conditions)
        for line in remarks(launch, self.signature.extent):
            if line not in known.comments:
                known.comments.append(line)
        return known, made.words

    def constant(self, storage: Storage) -> str:
        number = next(
            (i for i, each in enumerate(self.constants) if each.array is storage.array), None
        )
        if number is None:
            number = len(self.constants)
            self.constants.append(storage)
        return f"constant{number}" + (".values" if _needs_bits(self.constants[number]) else "")

    def helper_text(self, name: str) -> str:
        """A helper, under the conditions under which something needs it."""
        conditions = self.conditions.get(name, {""})
        if "" in conditions:
            return self.helpers[name]
        return f"#if {' || '.join(sorted(conditions))}\n{self.helpers[name]}\n#endif"

    def files(self) -> CSource:
        main = self.program.main
        for procedure in (*self.program.procedures, main):
            slots = self.signature.layout.slots
            names = slots.program_names if procedure is main else procedure.sizes
            dims = self.signature.dims
            sizes: dict[str, str] = {}
            for size in names:
                sizes[size] = identifier(f"size_{dims.get(size, size)}", sizes.values())
            printer = _ProcedurePrinter(self, procedure, sizes)
            name = self.fresh_name("program" if procedure is main else "procedure")
            self.functions[id(procedure)] = printer.function(name)
        interface = Interface(self.signature, main, self.functions[id(main)], self.program.checks)
        public = [interface.extents(), interface.workspace(), interface.program()]
        public += [interface.call(), interface.message()]
        name = self.signature.name
        parts = [
            f"/* {name}: written by graphc. Compile with\n"
            "   cc -std=c99 -O3 -march=native -ffp-contract=off -fno-math-errno -c\n"
            "   and, for threads, -fopenmp. */",
            f'#include "{name}.h"',
            FEATURES,
            *interface.helpers.values(),
            *(self.helper_text(key) for key in self.helpers if key not in interface.helpers),
            *map(_constant_text, range(len(self.constants)), self.constants),
            *(kernel.text for kernel in self.kernels.values()),
            *(function.text for function in self.functions.values()),
            *public,
        ]
        found = self.signature.layout
        inputs, outputs = (
            tuple(
                CArray(name, storage.dtype, axes, storage.strided)
                for name, storage, axes in zip(names, storages, rows, strict=True)
            )
            for names, storages, rows in (
                (interface.inputs, main.inputs, found.inputs),
                (interface.outputs, main.outputs, found.outputs),
            )
        )
        source = "\n\n".join(parts) + "\n"
        free, count = tuple(interface.sizes.values()), len(found.slots.program_names)
        donated = tuple(self.signature.donated.items())
        return CSource(name, source, interface.header(), inputs, outputs, free, count, donated)


def _needs_bits(storage: Storage) -> bool:
    """Whether a constant holds what no literal can: infinities and NaN."""
    name = storage.dtype.name
    if name not in ("float32", "float64"):
        return False
    return any(C.literal(value, name)[1] for value in storage.array.reshape(-1).tolist())


def _constant_text(number: int, storage: Storage) -> str:
    name = storage.dtype.name
    values = storage.array.reshape(-1).tolist()
    by_bits = _needs_bits(storage)
    if by_bits:
        unsigned = f"uint{storage.dtype.itemsize * 8}"
        words = storage.array.reshape(-1).view(unsigned).tolist()
        texts = [C.literal(word, unsigned)[0] for word in words]
    else:
        texts = [C.literal(value, name)[0] for value in values]
    texts = texts or ["0"]
    lines = [", ".join(texts[i : i + LINE]) for i in range(0, len(texts), LINE)]
    listed = lines[0] if len(lines) == 1 else "\n    " + ",\n    ".join(lines) + "\n"
    type_, count = C.memory_type(name), len(texts)
    if by_bits:
        union = f"union {{ {C.types[unsigned]} bits[{count}]; {type_} values[{count}]; }}"
        return f"static const {union} constant{number} = {{{{{listed}}}}};"
    return f"static const {type_} constant{number}[{count}] = {{{listed}}};"
