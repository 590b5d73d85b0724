"""Does a Function say where a NaN comes from, and what is to blame for a wrong result?

Faults are made on purpose: a rewrite rule that changes the value, an op whose kernel is not its
NumPy function, machine code of another program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.op import REGISTRY, NoDerivative, elementwise
from graphc.rewrite.rule import RULES

OPTIONS = gx.Options(cache=False)


def function(inputs: Any, outputs: Any, **more: Any) -> Any:
    return gx.compile(inputs, outputs, options=OPTIONS, **more)


# -- not a number ----------------------------------------------------------------------------------


def test_the_first_node_that_makes_a_nan_is_named_with_its_line() -> None:
    x, w = gx.matrix("x", ("n", 3)), gx.vector("w", 3)
    score = gx.log(x @ w)  # the culprit
    f = function([x, w], [gx.sum(score * 0.5), x + 1])
    ones = np.ones(3)
    assert f.explain_nan(np.ones((4, 3)), ones) is None
    values = np.ones((4, 3))
    values[2] = -1
    found = f.explain_nan(values, w=ones)
    assert (found.node.op.name, found.kind, found.index) == ("log", "NaN", (2,)) and found.reaches
    text = str(found)
    assert "log of -3.0 gives NaN at [2]" in text and "float64[n]" in text
    assert "test_diagnosis.py:31" in text


def test_a_nan_of_an_input_is_the_inputs() -> None:
    x = gx.vector("x", 3)
    f = function([x], x * 2)
    assert "the input x holds NaN at [1]" in str(f.explain_nan([1.0, np.nan, 2.0]))


def test_a_nan_is_found_before_an_infinity_and_inside_a_loop() -> None:
    steps = gx.vector("steps", 5)
    final, _ = gx.scan(lambda c, s: (gx.sqrt(c - s), c), gx.constant(1.0), steps)
    f = function([steps], [final, gx.exp(steps * 2000)])
    found = f.explain_nan(np.array([0.5, 0.5, 0.9, 0.0, 1.0]))
    assert found.node.op.name == "sqrt" and found.kind == "NaN"
    found = f.explain_nan(np.array([0.5, 0.5, 0.0, 0.0, 0.0]))
    assert found.node.op.name == "exp" and found.kind == "infinity" and found.index == (0,)


def test_a_nan_that_reaches_no_result_is_told_apart() -> None:
    x = gx.vector("x", 3)
    f = function([x], gx.where(x > 0, gx.log(x), 0.0))
    found = f.explain_nan(np.array([1.0, -1.0, 2.0]))
    assert found.node.op.name == "log" and not found.reaches
    assert "no result of the Function holds any" in str(found)


def test_arguments_are_checked_as_those_of_a_call() -> None:
    x = gx.vector("x", 3)
    f = function([x], x * 2)
    for ask in (f.explain_nan, f.verify):
        with pytest.raises(ValueError, match="argument 1, x: expected a float64 array"):
            ask(np.ones(4))


# -- wrong -----------------------------------------------------------------------------------------


def test_a_right_function_agrees_on_given_and_on_random_arguments() -> None:
    x, i = gx.symbol("x", ("n", 7), "float32"), gx.symbol("i", (4,), "int64")
    w = gx.symbol("w", (7,), "float32")
    cost = gx.sum(gx.tanh(x @ w) ** 2) + gx.logsumexp(x * 3)
    f = function([x, w, i], [cost, gx.grad(cost, w), gx.sort(x, axis=1), x[0][i], i * 3])
    assert f.verify() and f.verify().worst <= 1
    values = np.random.default_rng(0).standard_normal((300, 7)).astype("f") * 100
    found = f.verify(values, np.ones(7, "f"), np.array([0, 1, 2, 3]))
    assert found and "agrees with the graph as written" in str(found)


def test_nothing_is_donated_by_looking() -> None:
    x = gx.vector("x", 4)
    f = function([x], x * 2, donate=[x])
    values = np.ones(4)
    assert f.verify(values) and f.explain_nan(values) is None
    assert (values == 1).all()


@pytest.fixture
def wrong_rule() -> Iterator[str]:
    """A rule that takes arctan for its argument."""
    from graphc.rewrite.pattern import functions, variables
    from graphc.rewrite.rule import rule

    (x,), (arctan,) = variables("x"), functions("arctan")
    rule("wrong_arctan", arctan(x), x, law="ieee", example=lambda x: gx.arctan(x))
    yield "wrong_arctan"
    del RULES["wrong_arctan"]


def test_a_wrong_rule_is_named(wrong_rule: str) -> None:
    x, y = gx.vector("x", 5), gx.vector("y", 5)
    f = function([x, y], [y + 0.0 * y, gx.sum(gx.exp(y) * 1.0) + gx.arctan(x)])
    found = f.verify(np.arange(5.0), np.ones(5))
    assert not found and found.output == 1 and found.worst > 1
    assert f"the rewrite rule {wrong_rule!r} is to blame" in str(found)
    assert "test_diagnosis.py" in found.fault


@pytest.fixture
def wrong_op() -> Iterator[Any]:
    """An op whose kernel adds where its NumPy function multiplies."""
    op = elementwise(
        "wrong_product",
        numpy=lambda x, y: x * y,
        kernel=lambda k, x, y: k.add(x, y),
        partials=NoDerivative("it is there to be wrong"),
        kinds="f",
    )
    yield op
    del REGISTRY["wrong_product"]


def test_a_wrong_kernel_is_named(wrong_op: Any) -> None:
    x = gx.matrix("x", (6, 4))
    bad = gx.sum(wrong_op(x, x + 1), axis=0)
    f = function([x], [gx.softmax(x, axis=1), gx.exp(bad)])
    found = f.verify()
    assert not found and found.output == 1
    assert "the lowering of kernel" in found.fault and "test_diagnosis.py" in found.fault
    assert "result 1 at" in str(found)


def test_other_machine_code_is_not_the_fault_of_lowering() -> None:
    x = gx.vector("x", 5)
    f, g = function([x], gx.exp(x)), function([x], gx.sin(x))
    results = f._impl.slow
    f._impl.slow = lambda *args: g(*args) if args else results()
    found = f.verify(np.ones(5))
    assert not found and found.index == (0,) and "machine code" in found.fault
