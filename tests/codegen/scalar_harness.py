"""How do tests run scalar instructions, without the rest of the compiler?

A scope is evaluated by the NumPy functions of its opcodes, or printed by `llvm.scalar` into a loop
over arrays and compiled: the two must agree to the last bit.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from graphc.codegen.llvm import scalar as llvm_scalar
from graphc.codegen.llvm.lookup import lookup
from graphc.codegen.machine import Machine
from graphc.codegen.rare import Rare, rarely_needed
from graphc.codegen.scalar import OPCODES, Scope, Value
from graphc.codegen.softfloat import numpy_dtype

Build = Callable[..., Value]


def inputs_of(scope: Scope, dtypes: Sequence[str]) -> list[Value]:
    """Values that stand for the arrays a test passes in."""
    return [Value(scope, "load", (), dtype, number) for number, dtype in enumerate(dtypes)]


def build_scope(build: Build, dtypes: Sequence[str]) -> tuple[Scope, Value]:
    scope = Scope()
    return scope, build(scope, *inputs_of(scope, dtypes))


def evaluate(build: Build, *arrays: np.ndarray) -> np.ndarray:
    """The result of a procedure on arrays, one NumPy call an instruction."""
    scope, result = build_scope(build, [array.dtype.name for array in arrays])
    known: dict[int, Any] = {}

    def operand(value: Value) -> Any:
        return arrays[value.immediate] if value.opcode == "load" else known[id(value)]

    with np.errstate(all="ignore"):
        for value in scope.statements:
            if value.opcode == "const":
                known[id(value)] = np.array(value.immediate, numpy_dtype(value.dtype))
                continue
            operands = [operand(each) for each in value.args]
            if value.opcode == "lookup":
                operands.append(value.immediate)
            function = OPCODES[value.opcode].numpy
            stated = OPCODES[value.opcode].result == "stated"
            known[id(value)] = function(*operands, *([value.dtype] if stated else []))
    return np.broadcast_to(operand(result), arrays[0].shape)


def function_text(
    name: str,
    build: Build,
    dtypes: Sequence[str],
    lanes: int,
    branch: bool = False,
    converts_halves: bool = True,
    permuted_bytes: int | None = None,
) -> tuple[str, set[str]]:
    """LLVM IR of `name(inputs..., output, count)` and the declarations it needs.

    `count` is a multiple of `lanes`. `branch` prints what is rarely needed behind a branch.
    """
    scope, result = build_scope(build, dtypes)
    counter = itertools.count()

    def fresh() -> str:
        return f"%v{next(counter)}"

    lines: list[str] = []
    declarations: set[str] = set()
    operands: dict[Any, str] = {}
    for number, dtype in enumerate(dtypes):
        address = fresh()
        memory = llvm_scalar.memory_type(dtype, lanes)
        element = llvm_scalar.memory_type(dtype)
        lines.append(f"{address} = getelementptr {element}, ptr %p{number}, i64 %i")
        loaded = fresh()
        lines.append(f"{loaded} = load {memory}, ptr {address}, align 1")
        more, operands[number] = llvm_scalar.from_memory(loaded, dtype, lanes, fresh)
        lines += more

    def operand(value: Value) -> str:
        return operands[value.immediate if value.opcode == "load" else id(value)]

    def emit(value: Value) -> str:
        if value.opcode == "lookup":
            more, result, needed = lookup(
                *(operand(value.args[0]), value.immediate, value.dtype, lanes, fresh),
                Machine.host().permuted_bytes if permuted_bytes is None else permuted_bytes,
            )
            lines.extend(more)
            declarations.update(needed)
            return result
        more, result, needed = llvm_scalar.instruction(
            value.opcode,
            [operand(each) for each in value.args],
            [each.dtype for each in value.args],
            value.dtype,
            lanes,
            fresh,
            converts_halves,
        )
        lines.extend(more)
        declarations.update(needed)
        return result

    def emit_rare(rare: Rare) -> None:
        """What is rare behind a branch; where it is not taken a select is its last operand."""
        label = len(lines)
        condition, type_ = operand(rare.condition), llvm_scalar.llvm_type("bool", lanes)
        if lanes > 1:
            declarations.add(f"declare i1 @llvm.vector.reduce.or.v{lanes}i1({type_})")
            call = f"call i1 @llvm.vector.reduce.or.v{lanes}i1({type_} {condition})"
            condition = fresh()
            lines.append(f"{condition} = {call}")
        lines.extend([f"br label %before{label}", f"before{label}:"])
        lines.append(f"br i1 {condition}, label %rare{label}, label %after{label}")
        lines.append(f"rare{label}:")
        for value in rare.instructions:
            operands[id(value)] = emit(value)
        chosen = [emit(value) for value in rare.selects]
        lines.extend([f"br label %after{label}", f"after{label}:"])
        for value, inside in zip(rare.selects, chosen, strict=True):
            result, before = fresh(), operand(value.args[2])
            lines.append(
                f"{result} = phi {llvm_scalar.llvm_type(value.dtype, lanes)} "
                f"[{inside}, %rare{label}], [{before}, %before{label}]"
            )
            operands[id(value)] = result

    branches = rarely_needed(scope, [result]) if branch else []
    hidden = {id(value) for rare in branches for value in (*rare.instructions, *rare.selects)}
    starts = {id(rare.selects[0]): rare for rare in branches}
    for value in scope.statements:
        if value.opcode == "const":
            operands[id(value)] = llvm_scalar.constant(value.immediate, value.dtype, lanes)
    for value in scope.statements:
        if id(value) in starts:
            emit_rare(starts[id(value)])
        elif value.opcode != "const" and id(value) not in hidden:
            operands[id(value)] = emit(value)
    more, stored = llvm_scalar.to_memory(operand(result), result.dtype, lanes, fresh)
    lines += more
    memory = llvm_scalar.memory_type(result.dtype, lanes)
    lines.append(f"%out = getelementptr {llvm_scalar.memory_type(result.dtype)}, ptr %o, i64 %i")
    lines.append(f"store {memory} {stored}, ptr %out, align 1")
    parameters = "".join(f"ptr noalias %p{number}, " for number in range(len(dtypes)))
    body = "\n  ".join(lines)
    return (
        f"define void @{name}({parameters}ptr noalias %o, i64 %n) {{\n"
        "entry:\n  %any = icmp sgt i64 %n, 0\n  br i1 %any, label %loop, label %end\n"
        "loop:\n  %i = phi i64 [0, %entry], [%next, %latch]\n  "
        f"{body}\n  br label %latch\n"
        f"latch:\n  %next = add i64 %i, {lanes}\n  %more = icmp slt i64 %next, %n\n"
        "  br i1 %more, label %loop, label %end\nend:\n  ret void\n}\n",
        declarations,
    )


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


class Compiled:
    """Functions of one module, called on arrays of any length (padded to the lanes)."""

    def __init__(self, text: str, level: int = 1, features: str | None = None) -> None:
        _initialize()
        module = llvm.parse_assembly(text)
        module.verify()
        self.machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name() if features is None else "x86-64",
            features=llvm.get_host_cpu_features().flatten() if features is None else features,
            opt=level,
            jit=True,
        )
        module.triple = llvm.get_process_triple()
        module.data_layout = str(self.machine.target_data)
        passes = llvm.create_pass_builder(
            self.machine, llvm.create_pipeline_tuning_options(speed_level=0)
        )
        manager = llvm.create_new_module_pass_manager()
        manager.add_instruction_combine_pass()
        manager.run(module, passes)
        self.module = module
        self.engine = llvm.create_mcjit_compiler(module, self.machine)
        self.engine.finalize_object()

    def call(self, name: str, lanes: int, result_dtype: str, *arrays: np.ndarray) -> np.ndarray:
        count = len(arrays[0])
        padded = -(-count // lanes) * lanes
        inputs = [np.resize(np.ascontiguousarray(array), padded) for array in arrays]
        output = np.empty(padded, numpy_dtype(result_dtype))
        addresses = [array.ctypes.data for array in (*inputs, output)]
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(addresses), ctypes.c_int64)
        kind(self.engine.get_function_address(name))(*addresses, padded)
        return output[:count]


def compile_functions(
    functions: Sequence[tuple[str, Build, Sequence[str], int]],
    level: int = 1,
    branch: bool = False,
    features: str | None = None,
    permuted_bytes: int | None = None,
) -> Compiled:
    """One module with a function for each (name, procedure, input dtypes, lanes)."""
    texts, declarations = [], set()
    permuted_bytes = 0 if features is not None else permuted_bytes
    for name, build, dtypes, lanes in functions:
        text, needed = function_text(
            name, build, dtypes, lanes, branch, features is None, permuted_bytes
        )
        texts.append(text)
        declarations |= needed
    return Compiled("\n".join([*sorted(declarations), *texts]), level, features)


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays agree: equal bits, or both NaN (its sign and payload are not specified)."""
    if a.dtype.kind not in "f":
        return a == b
    word = f"u{a.dtype.itemsize}"
    both_nan = np.isnan(a) & np.isnan(b)
    return both_nan | (a.view(word) == np.ascontiguousarray(b).view(word))
