"""How are many launches written down?  As a table that one loop reads.

A launch whose sizes are known is a kernel, a number of tasks, and the words of a frame, each an
address that the procedure has and an offset from it. Written out that is a kilobyte of text, and
LLVM takes a tenth of a millisecond for it, without care. In a table it is a line of numbers, and
the loop over the table, which is compiled once and well, fills the frame as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.loops import Contract
from graphc.codegen.program import Launch, Operand, Statement, Storage, Together
from graphc.codegen.status import Code, Status

LAUNCHES = "graphc_launches"
# Of fewer launches each may cost a few nanoseconds less, written out.
FEWEST = 16
MOST_WORDS = 64
_TOGETHER = 4  # words that are filled in at a time: records have a multiple of so many
_BASE_BITS = 16
_MOST_BASES = 1 << _BASE_BITS - 1  # half of what fits, for constants take numbers too
_MOST = 1 << 62 - _BASE_BITS
# What every procedure has: nothing, to which numbers are added, the workspace, the status record.
# Its parameters come next, then constants.
_NOTHING, _WORKSPACE, _STATUS, _PARAMETERS = range(4)


@dataclass(eq=False)
class Table:
    """Launches of known sizes, one after the other."""

    launches: list[Launch] = field(default_factory=list)

    def parameters(self) -> int:
        """How many parameters of the procedure may be among the bases."""
        storages = [o.storage for launch in self.launches for o in launch.operands]
        return 1 + max((s.position for s in storages if _is_parameter(s)), default=-1)

    def records(
        self, workers: int, constant: Callable[[Storage], int]
    ) -> list[list[int]]:
        """For each launch how many words it has, its tasks and their grain, and the words.

        A word is the number of a base, and beyond `_BASE_BITS` what is added to it. `constant`
        gives the number of the base that is a constant.
        """
        found = []
        for launch in self.launches:
            words = _words(launch, workers, constant)
            words += [_word(_NOTHING, 0)] * (-len(words) % _TOGETHER)
            contracts = isinstance(launch.kernel.nest, Contract)
            sizes: tuple[Any, Any] = (1, 1) if contracts else (launch.tasks, launch.grain)
            found.append([len(words), *sizes, *words])
        return found


def with_tables(body: Sequence[Statement | Table]) -> list[Statement | Table]:
    """The statements, with long runs of launches whose sizes are known as tables."""
    result: list[Statement | Table] = []
    run: list[Statement] = []
    launches: list[Launch] = []

    def close() -> None:
        result.extend([Table(list(launches))] if len(launches) >= FEWEST else run)
        run.clear()
        launches.clear()

    for statement in body:
        parts = statement.launches if isinstance(statement, Together) else [statement]
        if all(isinstance(part, Launch) and _is_known(part) for part in parts):
            run.append(statement)  # type: ignore[arg-type]
            launches.extend(parts)  # type: ignore[arg-type]
        else:
            close()
            result.append(statement)
    close()
    return result


def _is_known(launch: Launch) -> bool:
    """Whether the record of a launch can be written down."""
    kernel = launch.kernel
    words = kernel.frame()
    if len(words) > MOST_WORDS or any(kind in ("stride", "extent") for kind, _ in words):
        return False
    sizes = [] if isinstance(kernel.nest, Contract) else [launch.tasks, launch.grain]
    sizes += [o.offset * o.storage.dtype.itemsize for o in launch.operands]
    storages = [operand.storage for operand in launch.operands]
    storages += [] if launch.scratch is None else [launch.scratch]
    sizes += [storage.offset for storage in storages if not _is_parameter(storage)]
    return all(isinstance(size, int) and abs(size) < _MOST for size in sizes) and all(
        storage.position < _MOST_BASES for storage in storages
    )


def _is_parameter(storage: Storage) -> bool:
    return storage.kind in ("input", "output")


def _words(launch: Launch, workers: int, constant: Callable[[Storage], int]) -> list[int]:
    operands = dict(zip(map(id, launch.kernel.buffers), launch.operands, strict=True))
    words = []
    for kind, item in launch.kernel.frame():
        if kind == "buffer":
            words.append(_address(operands[id(item)], constant))
        elif kind == "scratch" and launch.scratch is not None:
            words.append(_word(_WORKSPACE, launch.scratch.offset))
        elif kind == "status":
            words.append(_word(_STATUS, 0))
        else:
            words.append(_word(_NOTHING, workers if kind == "workers" else 0))
    return words


def _address(operand: Operand, constant: Callable[[Storage], int]) -> int:
    storage = operand.storage
    offset = operand.offset * storage.dtype.itemsize
    if storage.kind == "constant":
        return _word(constant(storage), offset)
    if _is_parameter(storage):
        return _word(_PARAMETERS + storage.position, offset)
    return _word(_WORKSPACE, storage.offset + offset)


def _word(base: int, offset: Any) -> int:
    return base | offset << _BASE_BITS


@dataclass(frozen=True)
class Written:
    """A table as LLVM IR: globals; of its procedure a line for the entry, lines that fill the
    bases, and the call of the loop.
    """

    globals: list[str]
    allocation: str
    filling: list[str]
    call: str


def write(
    table: Table,
    name: str,
    names: Mapping[int, str],
    workers: int,
    symbol: Callable[[Storage], str],
) -> Written:
    """The IR of a table that is called `name`; `names` are those of kernels by id, and `symbol` is
    that of a constant.
    """
    used = [names[id(launch.kernel)] for launch in table.launches]
    number = {kernel: i for i, kernel in enumerate(dict.fromkeys(used))}
    parameters = table.parameters()
    constants: dict[str, int] = {}

    def constant(storage: Storage) -> int:
        return constants.setdefault(symbol(storage), _PARAMETERS + parameters + len(constants))

    rows = [
        ", ".join(f"i64 {word}" for word in [number[kernel], *record])
        for kernel, record in zip(used, table.records(workers, constant), strict=True)
    ]
    size = sum(row.count("i64") for row in rows)
    kernels = ", ".join(f"ptr @{kernel}" for kernel in number)
    bases = f"%{name}"
    given = {_NOTHING: "null", _WORKSPACE: "%workspace", _STATUS: "%status"}
    given |= {base: f"@{constant}" for constant, base in constants.items()}
    filling = []
    for base, value in given.items():
        filling.append(f"{bases}.{base} = getelementptr i64, ptr {bases}, i64 {base}")
        filling.append(f"store ptr {value}, ptr {bases}.{base}, align 8")
    if parameters:
        at = f"{bases}.{_PARAMETERS}"
        filling.append(f"{at} = getelementptr i64, ptr {bases}, i64 {_PARAMETERS}")
        filling.append(
            f"call void @llvm.memcpy.p0.p0.i64(ptr align 8 {at}, ptr align 8 %buffers, "
            f"i64 {8 * parameters}, i1 false)"
        )
    return Written(
        [
            f"@{name}.kernels = internal constant [{len(number)} x ptr] [{kernels}]",
            f"@{name}.table = internal constant [{size} x i64] [",
            ",\n".join(f"  {row}" for row in rows),
            "]",
        ],
        f"{bases} = alloca [{_PARAMETERS + parameters + len(constants)} x i64], align 64",
        filling,
        f"@{LAUNCHES}(ptr @{name}.table, i64 {len(rows)}, ptr @{name}.kernels, ptr {bases}, "
        f"i64 {workers}, ptr %status)",
    )


DECLARATIONS = (
    f"declare i64 @{LAUNCHES}(ptr, i64, ptr, ptr, i64, ptr)",
    "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
)

def _fill(k: int) -> str:
    """The lines for one of the words that are filled in together."""
    return f"""  %position{k} = add i64 %position, {k}
  %at{k} = getelementptr i64, ptr %first, i64 %position{k}
  %code{k} = load i64, ptr %at{k}, align 8
  %which{k} = and i64 %code{k}, {(1 << _BASE_BITS) - 1}
  %offset{k} = ashr i64 %code{k}, {_BASE_BITS}
  %base_at{k} = getelementptr i64, ptr %bases, i64 %which{k}
  %base{k} = load i64, ptr %base_at{k}, align 8
  %value{k} = add i64 %base{k}, %offset{k}
  %to{k} = getelementptr i64, ptr %frame, i64 %position{k}
  store i64 %value{k}, ptr %to{k}, align 8"""


_STEP = "\n".join(map(_fill, range(_TOGETHER)))

# The loop: it returns the code of the status record, or that of a cancelled call.
LAUNCHES_MODULE = f"""
declare void @graphc_parallel_for(ptr, ptr, i64, i64, i64, ptr)

define i64 @{LAUNCHES}(ptr noalias %table, i64 %count, ptr noalias %kernels, ptr noalias %bases, \
i64 %workers, ptr %status) nounwind {{
entry:
  %frame = alloca [{MOST_WORDS} x i64], align 64
  %cancel_at = getelementptr i64, ptr %status, i64 {Status.CANCEL.value}
  br label %launch
launch:
  %number = phi i64 [0, %entry], [%following, %next]
  %record = phi ptr [%table, %entry], [%after, %next]
  %words_at = getelementptr i64, ptr %record, i64 1
  %tasks_at = getelementptr i64, ptr %record, i64 2
  %grain_at = getelementptr i64, ptr %record, i64 3
  %first = getelementptr i64, ptr %record, i64 4
  %kernel = load i64, ptr %record, align 8
  %words = load i64, ptr %words_at, align 8
  %tasks = load i64, ptr %tasks_at, align 8
  %grain = load i64, ptr %grain_at, align 8
  br label %word
word:
  %position = phi i64 [0, %launch], [%further, %word]
{_STEP}
  %further = add i64 %position, {_TOGETHER}
  %more = icmp slt i64 %further, %words
  br i1 %more, label %word, label %run
run:
  %after = getelementptr i64, ptr %first, i64 %words
  %kernel_at = getelementptr ptr, ptr %kernels, i64 %kernel
  %function = load ptr, ptr %kernel_at, align 8
  %fits = icmp sle i64 %tasks, %grain
  br i1 %fits, label %here, label %pool
here:
  call void %function(ptr %frame, i64 0, i64 %tasks, i64 0)
  br label %next
pool:
  call void @graphc_parallel_for(ptr %function, ptr %frame, i64 %tasks, i64 %grain, \
i64 %workers, ptr %status)
  br label %next
next:
  %failure = load atomic i64, ptr %status monotonic, align 8
  %cancel = load atomic i64, ptr %cancel_at monotonic, align 8
  %on = icmp ne i64 %cancel, 0
  %cancelled = select i1 %on, i64 {Code.CANCELLED.value}, i64 0
  %none = icmp eq i64 %failure, 0
  %state = select i1 %none, i64 %cancelled, i64 %failure
  %stops = icmp ne i64 %state, 0
  %following = add i64 %number, 1
  %last = icmp eq i64 %following, %count
  %leaves = or i1 %stops, %last
  br i1 %leaves, label %finish, label %launch
finish:
  ret i64 %state
}}
"""
