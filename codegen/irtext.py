"""How is LLVM IR written as text, with loops and branches that read like loops and branches?

Parsing text is five to thirteen times faster than building the same module through ``llvmlite.ir``
objects. Integer arithmetic on Python ints is folded while writing, because most kernels run no LLVM
passes: what is not written need not be removed.

An operand is a Python int, or the text of a value (``%t7``, ``null``, ``zeroinitializer``). Unless
another type is given, integers are ``i64``.

>>> f = Function("total", "ptr values, i64 count", result="i64")
>>> with f.loop(0, "%count", carried=[("i64", 0)]) as loop:
...     loop.next = [f.add(loop.carried[0], f.word("%values", loop.index))]
>>> f.leave("i64", loop.carried[0])
>>> print(Module([f]).text.splitlines()[0])
define i64 @total(ptr %values, i64 %count) nounwind {
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Operand = int | str
TypedOperand = tuple[str, Operand]


@dataclass(frozen=True)
class VectorType:
    """A vector of ``lanes`` floating-point elements; ``element`` is ``float`` or ``double``."""

    element: str
    lanes: int

    @property
    def element_bytes(self) -> int:
        return {"float": 4, "double": 8}[self.element]

    @property
    def bytes(self) -> int:
        return self.lanes * self.element_bytes

    @property
    def text(self) -> str:
        return f"<{self.lanes} x {self.element}>"

    @property
    def mask(self) -> str:
        return f"<{self.lanes} x i1>"

    @property
    def suffix(self) -> str:
        """What the names of overloaded intrinsics end in, such as ``v16f32``."""
        return f"v{self.lanes}f{8 * self.element_bytes}"


@dataclass
class Loop:
    """An open loop.

    Set ``next`` to the values that ``carried`` take in the following iteration, and ``step`` if the
    index advances by what the body found out.
    """

    index: str
    carried: list[str]
    step: Operand = 1
    next: list[Operand] = field(default_factory=list)


class Branch:
    """A closed ``when``: ``merge`` chooses between a value from inside and one from before."""

    def __init__(self, function: Function, before: str) -> None:
        self._function = function
        self._before = before
        self.inside = ""

    def merge(self, type_: str, inside: Operand, before: Operand) -> str:
        """The value ``inside`` if the body ran, otherwise ``before``."""
        return self._function.let(
            f"phi {type_} [{inside}, %{self.inside}], [{before}, %{self._before}]"
        )


class Function:
    """One function in the making.

    ``parameters`` is text such as ``"ptr noalias left, i64 depth"``; the attribute ``parameters``
    holds their operands. A void function returns at its end by itself. The names of values begin
    with ``values``, which lines that are written elsewhere (`splice`) must not use.
    """

    def __init__(
        self,
        name: str,
        parameters: str,
        *,
        result: str = "void",
        linkage: str = "",
        attributes: str = "nounwind",
        values: str = "t",
    ) -> None:
        self.name = name
        self._values = values
        self.linkage = linkage
        self.result = result
        self.declarations: set[str] = set()
        split = [parameter.rsplit(None, 1) for parameter in parameters.split(",") if parameter]
        self.parameters = [f"%{name}" for _, name in split]
        typed = ", ".join(f"{type_.strip()} %{name}" for type_, name in split)
        head = " ".join(word for word in ("define", linkage, result, f"@{name}({typed})") if word)
        self._lines = [f"{head} {attributes} {{", "entry:"]
        self._block = "entry"
        self._open = True
        self._counter = 0

    # plain text

    def let(self, instruction: str) -> str:
        """Append an instruction and return the name of its value."""
        name = self._name()
        self._lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction without a value."""
        self._lines.append(f"  {instruction}")

    @property
    def here(self) -> str:
        """The label of the block that is being written."""
        return self._block

    def splice(self, lines: Sequence[str], block: str) -> None:
        """Append lines that were written elsewhere and end in a block."""
        self._lines.extend(lines)
        self._block = block

    def leave(self, type_: str = "void", value: Operand | None = None) -> None:
        """Return from the function; nothing may be written after it in the same block."""
        self.do("ret void" if value is None else f"ret {type_} {value}")
        self._open = False

    @property
    def text(self) -> str:
        """The definition; a void function that was left open returns at its end."""
        tail = ["  ret void"] if self._open else []
        return "\n".join([*self._lines, *tail, "}", ""])

    # integers

    def add(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        return a if b == 0 else self.let(f"add i64 {a}, {b}")

    def subtract(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.let(f"sub i64 {a}, {b}")

    def multiply(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        return a if b == 1 else self.let(f"mul i64 {a}, {b}")

    def divide(self, a: Operand, b: Operand) -> Operand:
        """Quotient of nonnegative integers."""
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        return a if b == 1 else self.let(f"udiv i64 {a}, {b}")

    def remainder(self, a: Operand, b: Operand) -> Operand:
        """Remainder of nonnegative integers."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        return self.let(f"urem i64 {a}, {b}")

    def ceil_divide(self, a: Operand, b: Operand) -> Operand:
        """Quotient of nonnegative integers, rounded up."""
        return self.divide(self.add(a, self.subtract(b, 1)), b)

    def round_up(self, a: Operand, b: Operand) -> Operand:
        """The smallest multiple of ``b`` that is not below the nonnegative ``a``."""
        return self.multiply(self.ceil_divide(a, b), b)

    def minimum(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.select(self.compare("slt", a, b), a, b)

    def maximum(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.select(self.compare("sgt", a, b), a, b)

    # conditions

    def compare(self, predicate: str, a: Operand, b: Operand, type_: str = "i64") -> str:
        return self.let(f"icmp {predicate} {type_} {a}, {b}")

    def select(self, condition: str, a: Operand, b: Operand, type_: str = "i64") -> str:
        return self.let(f"select i1 {condition}, {type_} {a}, {type_} {b}")

    def both(self, a: str, b: str) -> str:
        return self.let(f"and i1 {a}, {b}")

    def either(self, a: str, b: str) -> str:
        return self.let(f"or i1 {a}, {b}")

    def negate(self, a: str) -> str:
        return self.let(f"xor i1 {a}, true")

    # memory

    def at(self, pointer: Operand, offset: Operand) -> Operand:
        """The address ``offset`` bytes after ``pointer``."""
        if offset == 0:
            return pointer
        return self.let(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def load(self, type_: str, pointer: Operand, align: int) -> str:
        return self.let(f"load {type_}, ptr {pointer}, align {align}")

    def store(self, type_: str, value: Operand, pointer: Operand, align: int) -> None:
        self.do(f"store {type_} {value}, ptr {pointer}, align {align}")

    def prefetch(self, pointer: Operand, locality: int = 3) -> None:
        """Ask for a cache line that will be read; any address is allowed. ``locality`` 3 is the
        first level of cache, 2 the second.
        """
        hints = (("i32", 0), ("i32", locality), ("i32", 1))  # to read, data
        self.call("void", "llvm.prefetch.p0", ("ptr", pointer), *hints)

    def word(self, base: Operand, index: Operand, type_: str = "i64") -> str:
        """Load word ``index`` (eight bytes) of a table of words."""
        return self.load(type_, self.at(base, self.multiply(index, 8)), 8)

    def set_word(self, base: Operand, index: Operand, value: Operand, type_: str = "i64") -> None:
        self.store(type_, value, self.at(base, self.multiply(index, 8)), 8)

    # calls

    def call(self, result: str, name: str, *arguments: TypedOperand) -> str:
        """Call a function by name; its declaration is added unless the module defines it."""
        types = ", ".join(type_ for type_, _ in arguments)
        self.declarations.add(f"declare {result} @{name}({types})")
        return self._call(result, f"@{name}", arguments)

    def call_pointer(self, result: str, pointer: Operand, *arguments: TypedOperand) -> str:
        return self._call(result, pointer, arguments)

    def _call(self, result: str, callee: Operand, arguments: Sequence[TypedOperand]) -> str:
        passed = ", ".join(f"{type_} {value}" for type_, value in arguments)
        instruction = f"call {result} {callee}({passed})"
        if result != "void":
            return self.let(instruction)
        self.do(instruction)
        return ""

    # vectors

    def splat(self, vector: VectorType, scalar: Operand) -> str:
        """A vector whose lanes all hold the floating-point ``scalar``."""
        return self._splat(vector.element, vector.lanes, scalar)

    def splat_integers(self, lanes: int, scalar: Operand) -> str:
        """A vector of i64 whose lanes all hold ``scalar``."""
        return self._splat("i64", lanes, scalar)

    def _splat(self, element: str, lanes: int, scalar: Operand) -> str:
        type_ = f"<{lanes} x {element}>"
        first = self.let(f"insertelement {type_} poison, {element} {scalar}, i64 0")
        return self.shuffle(type_, first, "poison", [0] * lanes)

    def shuffle(self, type_: str, a: Operand, b: Operand, lanes: Sequence[int]) -> str:
        chosen = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.let(f"shufflevector {type_} {a}, {type_} {b}, <{len(lanes)} x i32> <{chosen}>")

    def multiply_add(
        self, vector: VectorType, a: Operand, b: Operand, c: Operand, fused: bool
    ) -> str:
        """``a * b + c``, rounded once if ``fused``, otherwise as the target likes."""
        name = f"llvm.{'fma' if fused else 'fmuladd'}.{vector.suffix}"
        return self.call(vector.text, name, *((vector.text, value) for value in (a, b, c)))

    def mask_below(self, vector: VectorType, count: Operand) -> str:
        """Lanes below ``count``, which may be negative or above the number of lanes."""
        narrow = self.let(f"trunc i64 {count} to i32")
        bound = self._splat("i32", vector.lanes, narrow)
        numbers = ", ".join(f"i32 {lane}" for lane in range(vector.lanes))
        return self.let(f"icmp slt <{vector.lanes} x i32> <{numbers}>, {bound}")

    def load_lanes(self, vector: VectorType, pointer: Operand, mask: str | None) -> str:
        """Load the masked lanes, zero in the others; no mask means all."""
        if mask is None:
            return self.load(vector.text, pointer, vector.element_bytes)
        return self.call(
            vector.text,
            f"llvm.masked.load.{vector.suffix}.p0",
            ("ptr", f"align {vector.element_bytes} {pointer}"),
            (vector.mask, mask),
            (vector.text, "zeroinitializer"),
        )

    def store_lanes(
        self, vector: VectorType, value: Operand, pointer: Operand, mask: str | None
    ) -> None:
        if mask is None:
            self.store(vector.text, value, pointer, vector.element_bytes)
            return
        self.call(
            "void",
            f"llvm.masked.store.{vector.suffix}.p0",
            (vector.text, value),
            ("ptr", f"align {vector.element_bytes} {pointer}"),
            (vector.mask, mask),
        )

    # control

    @contextmanager
    def loop(
        self, start: Operand, stop: Operand, step: Operand = 1, carried: Sequence[TypedOperand] = ()
    ) -> Iterator[Loop]:
        """``for index in range(start, stop, step)``; after it ``carried`` hold the last values."""
        before, head, body, done = self._block, *(self._label() for _ in range(3))
        self._jump(head)
        self._start(head)
        place = self._reserve(1 + len(carried))
        loop = Loop(self._name(), [self._name() for _ in carried], step)
        self._branch(self.compare("slt", loop.index, stop), body, done)
        self._start(body)
        yield loop
        following = self.let(f"add nsw i64 {loop.index}, {loop.step}")
        self._fill(place, loop, carried, before, start, following)
        self._jump(head)
        self._start(done)

    @contextmanager
    def repeat(self, count: Operand, carried: Sequence[TypedOperand] = ()) -> Iterator[Loop]:
        """Run ``count >= 1`` times, tested at the bottom; after it ``next`` holds the results."""
        before, body, done = self._block, self._label(), self._label()
        self._jump(body)
        self._start(body)
        place = self._reserve(1 + len(carried))
        loop = Loop(self._name(), [self._name() for _ in carried])
        yield loop
        following = self.let(f"add nuw nsw i64 {loop.index}, 1")
        self._fill(place, loop, carried, before, 0, following)
        self._branch(self.compare("slt", following, count), body, done)
        self._start(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[Branch]:
        """Run the body if ``condition`` (an ``i1``) holds."""
        branch = Branch(self, self._block)
        inside, after = self._label(), self._label()
        self._branch(condition, inside, after)
        self._start(inside)
        yield branch
        branch.inside = self._block
        self._jump(after)
        self._start(after)

    def label(self) -> str:
        """The name of a block that is yet to be written."""
        return self._label()

    def block(self, label: str) -> None:
        """Begin the block ``label``; one that was left open before it runs on into it."""
        self._jump(label)
        self._start(label)

    def jump(self, label: str) -> None:
        """End the block: go on at ``label``."""
        self._jump(label)
        self._open = False

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        """End the block: go on at one of two others."""
        self._branch(condition, then, otherwise)
        self._open = False

    def require(self, condition: str, otherwise: str) -> None:
        """Go on here if ``condition`` holds, else at the block ``otherwise``."""
        here = self._label()
        self._branch(condition, here, otherwise)
        self._start(here)

    def _fill(
        self,
        place: int,
        loop: Loop,
        carried: Sequence[TypedOperand],
        before: str,
        start: Operand,
        following: str,
    ) -> None:
        """Write the phi nodes of a loop, whose last operands are known only at its end."""
        if len(loop.next) != len(carried):
            raise ValueError(f"{len(carried)} values are carried, {len(loop.next)} were given")
        phis: list[tuple[str, str, Operand, Operand]] = [(loop.index, "i64", start, following)]
        for name, (type_, initial), value in zip(loop.carried, carried, loop.next, strict=True):
            phis.append((name, type_, initial, value))
        for offset, (name, type_, initial, value) in enumerate(phis):
            incoming = f"[{initial}, %{before}], [{value}, %{self._block}]"
            self._lines[place + offset] = f"  {name} = phi {type_} {incoming}"

    def _reserve(self, count: int) -> int:
        place = len(self._lines)
        self._lines += [""] * count
        return place

    def _name(self) -> str:
        self._counter += 1
        return f"%{self._values}{self._counter}"

    def _label(self) -> str:
        self._counter += 1
        return f"b{self._counter}"

    def _start(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label
        self._open = True

    def _jump(self, label: str) -> None:
        if self._open:
            self.do(f"br label %{label}")

    def _branch(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")


class Module:
    """Functions and globals that are compiled together; declarations are collected."""

    def __init__(self, functions: Sequence[Function], globals_: Sequence[str] = ()) -> None:
        self.functions = list(functions)
        self.globals = list(globals_)

    @property
    def exports(self) -> list[str]:
        """Names that other modules may use."""
        return [f.name for f in self.functions if f.linkage not in ("internal", "private")]

    @property
    def imports(self) -> list[str]:
        """Functions that must come from elsewhere (LLVM's intrinsics excepted)."""
        names = [declaration.split("@")[1].split("(")[0] for declaration in self._declarations()]
        return [name for name in names if not name.startswith("llvm.")]

    @property
    def text(self) -> str:
        return "\n".join([*self.globals, *self._declarations(), *(f.text for f in self.functions)])

    def _declarations(self) -> list[str]:
        defined = {f.name for f in self.functions}
        wanted = set().union(*(f.declarations for f in self.functions))
        return sorted(d for d in wanted if d.split("@")[1].split("(")[0] not in defined)
