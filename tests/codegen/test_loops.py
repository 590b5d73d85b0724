"""Does `verify` accept what keeps the rules of kernels, and refuse each way to break one?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graphc.codegen.loops import Buffer, Contract, Kernel, KernelError, Region, verify
from graphc.codegen.scalar import Accumulate, Accumulator, Address, Scope, Store, Value
from graphc.dims import Dim, dim

N, M = dim("n"), dim("m")


def symbol(name: str) -> Dim:
    return Dim.symbol(name)


def buffers(*dtypes: str) -> list[Buffer]:
    """Buffers of shape (n, m)."""
    return [Buffer(f"b{i}", dtype, (N, M)) for i, dtype in enumerate(dtypes)]


def sum_of_rows() -> Kernel:
    """The sum of every row, doubled."""
    x, y = Buffer("x", "float32", (N, M)), Buffer("y", "float32", (N,))
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as rows:
        row = symbol(rows.variable)
        with rows.body.loop("vector", 0, M) as lanes:
            value = lanes.body.load(x, (row, symbol(lanes.variable)))
            total = lanes.accumulate("add", value)
        rows.body.store(y, (row,), rows.body.mul(lanes.result(total), 2))
    return Kernel([x, y], scope)


def gather() -> Kernel:
    """Elements at positions that are data, 0 where they are out of range."""
    x, at, y = (
        Buffer("x", "float64", (N,)),
        Buffer("at", "int64", (M,)),
        Buffer("y", "float64", (M,)),
    )
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once, once.body.loop("vector", 0, M) as lanes:
        k = lanes.body
        i = symbol(lanes.variable)
        position = k.load(at, (i,))
        inside = k.and_(k.ge(position, 0), k.lt(position, k.index(N)))
        k.check(inside, 1, 0, position)
        value = k.load(x, (symbol("_arg0"),), (position,), inside)
        k.store(y, (i,), value, mask=inside)
    return Kernel([x, at, y], scope)


def region(scope: Scope, names: tuple[str, ...], buffer: Buffer) -> Region:
    """The element of a buffer at the index that a region binds."""
    body = Scope(scope, names)
    return Region(names, body, body.load(buffer, tuple(map(symbol, names))))


def product_kernel(epilogue: Callable[[Scope, Value, Buffer], None] | None = None) -> Kernel:
    """A batched product of float64 matrices."""
    x = Buffer("x", "float64", (2, N, 3))
    y = Buffer("y", "float64", (2, 3, M))
    z = Buffer("z", "float64", (2, N, M))
    scope = Scope()
    names = ("b3", "i3", "j3")
    body = Scope(scope, names)
    left, right = region(scope, ("b1", "i1", "k1"), x), region(scope, ("b2", "k2", "j2"), y)
    statement = Contract(2, N, M, 3, "float64", left, right, Region(names, body))
    statement.product = Value(body, "result", (), "float64", statement)
    if epilogue is None:
        body.store(z, tuple(map(symbol, names)), statement.product)
    else:
        epilogue(body, statement.product, z)
    scope.statements.append(statement)
    return Kernel([x, y, z], scope)


@pytest.mark.parametrize("build", [sum_of_rows, gather, product_kernel])
def test_well_formed_kernels_pass(build: Callable[[], Kernel]) -> None:
    verify(build())


def test_a_value_may_be_used_in_inner_loops_and_an_accumulator_in_an_inner_one() -> None:
    x, y = buffers("float64", "float64")
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once:
        with once.body.loop("serial", 0, N) as rows:
            first = rows.body.load(x, (symbol(rows.variable), 0))
            with rows.body.loop("vector", 0, M) as lanes:
                value = lanes.body.mul(first, first)
                total = Accumulator("max", "float64")
                rows.loop.accumulators.append(total)
                lanes.body.statements.append(Accumulate(total, value))
        once.body.store(y, (0, 0), rows.result(total))
    verify(Kernel([x, y], scope))


# -- each rule, broken -----------------------------------------------------------------------------

Breaker = Callable[[], Kernel]
BROKEN: dict[str, tuple[str, Breaker]] = {}


def breaks(rule: str) -> Callable[[Breaker], Breaker]:
    def note(build: Breaker) -> Breaker:
        BROKEN[build.__name__] = (rule, build)
        return build

    return note


def in_a_loop(fill: Callable[[Scope, Any, list[Buffer]], None], *dtypes: str) -> Kernel:
    """A kernel with one task per row, whose body `fill` writes."""
    made = buffers(*dtypes)
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as rows:
        fill(rows.body, symbol(rows.variable), made)
    return Kernel(made, scope)


@breaks("holds one loop nest")
def nothing_to_run() -> Kernel:
    return Kernel([], Scope())


@breaks("holds one loop nest")
def two_nests() -> Kernel:
    scope = Scope()
    for _ in range(2):
        with scope.loop("parallel", 0, N, "p"):
            pass
    return Kernel([], scope)


@breaks("outermost loop must be parallel")
def serial_outside() -> Kernel:
    scope = Scope()
    with scope.loop("serial", 0, N):
        pass
    return Kernel([], scope)


@breaks("a parallel loop inside a loop")
def parallel_inside() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("parallel", 0, M, "p"):
            pass

    return in_a_loop(fill)


@breaks("a vector loop inside a vector loop")
def lanes_of_lanes() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with (
            k.loop("vector", 0, M) as lanes,
            lanes.body.loop("serial", 0, 3) as steps,
            steps.body.loop("vector", 0, M),
        ):
            pass

    return in_a_loop(fill)


@breaks("outside of its vector loops")
def barrier_among_lanes() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            lanes.body.barrier()

    return in_a_loop(fill)


@breaks("the last statement of its loop")
def until_before_the_end() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("serial", 0, 3) as steps:
            steps.body.until(steps.body.const(True, "bool"))
            steps.body.store(made[1], (row, 0), steps.body.load(made[0], (row, 0)))

    return in_a_loop(fill, "float64", "float64")


@breaks("has no accumulators")
def until_with_an_accumulator() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("serial", 0, 3) as steps:
            steps.accumulate("add", steps.body.load(made[0], (row, 0)))
            steps.body.until(steps.body.const(True, "bool"))

    return in_a_loop(fill, "float64", "float64")


@breaks("used where it is not defined")
def value_after_its_loop() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            value = lanes.body.load(made[0], (row, symbol(lanes.variable)))
        k.store(made[1], (row, 0), value)

    return in_a_loop(fill, "float64", "float64")


@breaks("used where it is not defined")
def value_before_itself() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        value = k.neg(k.load(made[0], (row, 0)))
        k.statements.insert(0, k.statements.pop(k.statements.index(value)))
        k.store(made[1], (row, 0), value)

    return in_a_loop(fill, "float64", "float64")


@breaks("used where it is not defined")
def mask_from_nowhere() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        mask = Value(k, "const", (), "bool", True)
        k.store(made[0], (row, 0), k.const(1, "float64"), mask=mask)

    return in_a_loop(fill, "float64")


@breaks("is not a parameter")
def undeclared_buffer() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.store(Buffer("elsewhere", "float64", (N,)), (row,), k.const(1, "float64"))

    return in_a_loop(fill)


@breaks("has rank 2")
def index_of_another_rank() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.store(made[0], (row,), k.const(1, "float64"))

    return in_a_loop(fill, "float64")


@breaks("not in scope")
def variable_of_a_closed_loop() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            pass
        k.store(made[0], (row, symbol(lanes.variable)), k.const(1, "float64"))

    return in_a_loop(fill, "float64")


@breaks("not in scope")
def bound_that_names_its_own_variable() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("serial", 0, M) as steps:
            steps.loop.stop = symbol(steps.variable) + 1

    return in_a_loop(fill)


@breaks("not in scope")
def argument_that_a_store_does_not_have() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.store(made[0], (row, symbol("_arg1")), k.const(1, "float64"), (k.const(0, "int64"),))

    return in_a_loop(fill, "float64")


@breaks("index arguments")
def load_with_a_mask_but_no_fill() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        address = Address(made[0], (row, 0), 0)
        k.statements.append(Value(k, "load", (k.const(True, "bool"),), "float64", address))

    return in_a_loop(fill, "float64")


@breaks("store of int64 to b0: float64")
def store_of_another_dtype() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.store(made[0], (row, 0), k.const(1, "int64"))

    return in_a_loop(fill, "float64")


@breaks("accumulation outside its loop")
def accumulation_after_its_loop() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        one = k.const(1, "float64")
        with k.loop("vector", 0, M) as lanes:
            total = lanes.accumulate("add", one)
        k.statements.append(Accumulate(total, one))

    return in_a_loop(fill)


@breaks("of another dtype")
def accumulation_of_another_dtype() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            total = lanes.accumulate("add", k.const(1, "float64"))
            total.dtype = "float32"

    return in_a_loop(fill)


@breaks("unknown combiner")
def unknown_combiner() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            lanes.accumulate("subtract", k.const(1, "float64"))

    return in_a_loop(fill)


@breaks("before its loop has ended")
def result_inside_its_loop() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            total = lanes.accumulate("add", k.const(1, "float64"))
            lanes.body.statements.append(Value(lanes.body, "result", (), "float64", total))

    return in_a_loop(fill)


@breaks("not a statement")
def something_else() -> Kernel:
    return in_a_loop(lambda k, row, made: k.statements.append("nothing"))


@breaks("operand of a contraction has another dtype")
def operand_of_another_dtype() -> Kernel:
    kernel = product_kernel()
    kernel.nest.dtype = "float32"  # type: ignore[union-attr]
    return kernel


@breaks("operand of a contraction has another dtype")
def operand_without_a_value() -> Kernel:
    kernel = product_kernel()
    kernel.nest.left.value = None  # type: ignore[union-attr]
    return kernel


@breaks("used where it is not defined")
def product_in_a_prologue() -> Kernel:
    kernel = product_kernel()
    nest = kernel.nest
    assert isinstance(nest, Contract) and nest.product is not None
    nest.left.body.statements.append(Value(nest.left.body, "neg", (nest.product,), "float64", None))
    return kernel


@breaks("an accumulator on a parallel loop")
def accumulator_of_a_parallel_loop() -> Kernel:
    scope = Scope()
    with scope.loop("parallel", 0, N, "p") as rows:
        rows.accumulate("add", rows.body.const(1, "float64"))
    return Kernel([], scope)


@breaks("mask of a store is int64, not bool")
def store_mask_that_is_not_bool() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.store(made[0], (row, 0), k.const(1, "float64"), mask=k.const(1, "int64"))

    return in_a_loop(fill, "float64")


@breaks("mask of a load is int64, not bool")
def load_mask_that_is_not_bool() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.load(made[0], (row, 0), mask=k.const(1, "int64"))

    return in_a_loop(fill, "float64")


@breaks("fill of a load from b0 is int64, not float64")
def fill_of_another_dtype() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.load(made[0], (row, 0), mask=k.const(True, "bool"), fill=k.const(0, "int64"))

    return in_a_loop(fill, "float64")


@breaks("mask of an accumulation is int64, not bool")
def accumulation_mask_that_is_not_bool() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("vector", 0, M) as lanes:
            lanes.accumulate("add", k.const(1, "float64"), k.const(1, "int64"))

    return in_a_loop(fill)


@breaks("condition of a check is int64, not bool")
def check_of_a_number() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.check(k.const(1, "int64"), 1, 0, k.const(0, "int64"))

    return in_a_loop(fill)


@breaks("index that a check reports is float64, not int64")
def check_that_reports_a_float() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.check(k.const(True, "bool"), 1, 0, k.const(0, "float64"))

    return in_a_loop(fill)


@breaks("an index argument is float64, not int64")
def index_argument_that_is_a_float() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        k.load(made[0], (row, symbol("_arg0")), (k.const(0, "float64"),))

    return in_a_loop(fill, "float64")


@breaks("a store to z in a prologue")
def store_in_a_prologue() -> Kernel:
    kernel = product_kernel()
    nest = kernel.nest
    assert isinstance(nest, Contract) and nest.left.value is not None
    index = tuple(map(symbol, nest.left.variables))
    nest.left.body.statements.append(Store(kernel.buffers[2], index, nest.left.value))
    return kernel


@breaks("a contraction inside a loop")
def contraction_in_a_loop() -> Kernel:
    inner = product_kernel()
    scope = Scope()
    with scope.loop("parallel", 0, 1, "p") as once:
        once.body.statements.append(inner.nest)
    return Kernel(inner.buffers, scope)


@breaks("unknown role sideways")
def role_that_is_none() -> Kernel:
    def fill(k: Scope, row: Any, made: list[Buffer]) -> None:
        with k.loop("sideways", 0, M):
            pass

    return in_a_loop(fill)


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_rule_is_named(name: str) -> None:
    rule, build = BROKEN[name]
    with pytest.raises(KernelError, match=rule) as caught:
        verify(build())
    assert "kernel (" in str(caught.value), "the message shows the kernel"


# -- what a kernel says of itself ------------------------------------------------------------------


def test_extents_are_the_free_names_in_order() -> None:
    assert sum_of_rows().extents == ("m", "n")
    assert gather().extents == ("m", "n")
    assert product_kernel().extents == ("m", "n")


def test_a_frame_holds_buffers_strides_extents_and_the_status() -> None:
    kernel = sum_of_rows()
    x, y = kernel.buffers
    x.layout = "strided"
    words = kernel.frame()
    assert words == [
        ("buffer", x),
        ("buffer", y),
        ("stride", (x, 0)),
        ("stride", (x, 1)),
        ("extent", "m"),
        ("extent", "n"),
        ("status", None),
    ]


def test_written_buffers_are_those_stored_to() -> None:
    assert [b.name for b in sum_of_rows().written()] == ["y"]
    assert [b.name for b in product_kernel().written()] == ["z"]


def test_equal_kernels_have_equal_text() -> None:
    for build in (sum_of_rows, gather, product_kernel):
        assert build().text() == build().text()
    assert sum_of_rows().text() != gather().text()


def test_text_shows_every_kind_of_statement() -> None:
    text = gather().text()
    for piece in ("parallel:", "vector:", "load ", "x[_arg0]", "check ", " code 1 node 0", " if "):
        assert piece in text, piece
    text = product_kernel().text()
    for piece in ("contract float64 [2, n, m, 3]:", "left (b1, i1, k1):", "yield ", "epilogue"):
        assert piece in text, piece
    assert "add= " in sum_of_rows().text()
