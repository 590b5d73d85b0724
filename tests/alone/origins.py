"""Does every node know which line of the user's code it came from, whatever graphc did to it?"""

from __future__ import annotations

import gc
import inspect
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.node import interned_count, topological
from graphc.origin import LIMIT, location

HERE = __file__


def line() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def built_at(node: Any) -> tuple[str, int]:
    file, _, number = location(node.origin).rpartition(":")
    return file, int(number)


def own(root: Any) -> list[Any]:
    """The nodes beneath but numbers, which are shared with everything else that is alive."""
    return [node for node in topological([root]) if node.op.name != "constant"]


def kinds(node: Any) -> list[str]:
    return [event.kind for event in node.origin]


def fresh(name: str) -> Any:
    """A symbol that no other test has, so that no other line is among its origins."""
    return gx.vector(f"{name} of the test of origins", 3)


# -- frames ----------------------------------------------------------------------------------------


def test_the_line_that_built_a_node() -> None:
    x, here = gx.vector("a of the test of origins", 3), line()
    y = gx.tanh(x) * 2
    assert built_at(x) == (HERE, here)
    assert built_at(y) == (HERE, here + 1)
    assert all(built_at(node)[0] == HERE for node in own(y))
    assert y.origin[0].function == "test_the_line_that_built_a_node"


def test_the_innermost_function_of_the_user() -> None:
    def layer(z: Any) -> Any:
        return gx.exp(z) + 1

    y, here = layer(fresh("b") * 1.5), line()
    assert built_at(y) == (HERE, here - 2)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: -x,
        lambda x: 1 - x,
        lambda x: x[::-1],
        lambda x: x[None],
        lambda x: np.exp(x),
        lambda x: np.add(1.0, x),
        lambda x: np.concatenate([x, x]),
        lambda x: np.ones(3) * x,
        lambda x: x.sum(),
        lambda x: gx.softmax(x),
        lambda x: gx.mean(x),
        lambda x: gx.take(x, [0, 1]),
        lambda x: gx.scan(lambda s, a: (s + a, s), 0.0, x)[1],
        lambda x: gx.call(lambda a: a * 3, x),
        lambda x: gx.where(x > 0, x, 0),
        lambda x: x.T @ x,
    ],
)
def test_operators_methods_protocols_and_composed_functions(build: Any) -> None:
    y = build(fresh("c"))
    assert built_at(y)[0] == HERE
    for node in own(y):
        assert built_at(node)[0] == HERE, node


def test_layers_and_update_rules_are_passed_through() -> None:
    """`nn` and `optim` use public names as anybody would, but their lines are not the user's."""
    x, w, b = gx.matrix("x of origins", (4, 3)), gx.matrix("w of origins", (3, 2)), fresh("d")[:2]
    loss = next(
        getattr(gx.nn, name)
        for name in dir(gx.nn)
        if "entropy" in name and callable(getattr(gx.nn, name))
    )
    labels = gx.symbol("labels of origins", (4,), "int64")
    here = line() + 1
    cost = loss(gx.tanh(x @ w + b), labels)
    assert built_at(cost) == (HERE, here)
    assert {built_at(node)[0] for node in own(cost)} == {HERE}


def test_a_file_that_is_named_like_graphc_is_a_users() -> None:
    namespace: dict[str, Any] = {"__name__": "graphc_model", "gx": gx}
    source = "x = gx.vector('y of origins', 3)\ny = gx.exp(x)"
    exec(compile(source, "graphc_model.py", "exec"), namespace)
    assert location(namespace["y"].origin) == "graphc_model.py:2"


# -- events of transformations ---------------------------------------------------------------------


def test_a_gradient_says_of_what() -> None:
    x = fresh("e")
    y, here = gx.sum(gx.tanh(x * 1.5)), line()
    (slope,) = gx.grad(y, [x])
    events = [event for node in topological([slope]) for event in node.origin]
    vjps = {event.subject for event in events if event.kind == "vjp"}
    assert "tanh" in vjps
    assert built_at(slope) == (HERE, here)


def test_a_tangent_says_of_what() -> None:
    x = fresh("f")
    y, here = gx.exp(x * 2.5), line()
    pushed = gx.jvp(y, x, gx.constant([1.0, 2.0, 3.0]))
    events = [event for node in topological([pushed]) for event in node.origin]
    assert {"exp"} <= {event.subject for event in events if event.kind == "jvp"}
    assert all(
        event.because and event.because[0].line == here for event in events if event.kind == "jvp"
    )


def test_a_rewritten_node_names_the_rule_and_the_line() -> None:
    x = gx.vector("g of the test of origins", 17)  # a shape that no other Function here has
    y, here = gx.log(gx.sum(gx.exp(x))) + 0.0, line()
    f = gx.compile([x], [y], target="interpret", options=gx.Options(math="real"))
    assert f.firings
    nodes = topological(f.rewritten.outputs)
    rules = {event.subject for node in nodes for event in node.origin if event.kind == "rule"}
    assert rules <= {firing.rule.name for firing in f.firings}
    assert rules
    # A literal is one node in the whole process: it may have been made elsewhere before.
    made = [node for node in nodes if node.args and "rule" in kinds(node)]
    assert made
    assert all(built_at(node) == (HERE, here) for node in made)


def test_second_derivatives_still_end_at_the_users_line() -> None:
    x = fresh("h")
    y = gx.sum(gx.tanh(x) ** 3)
    twice = gx.grad(gx.sum(gx.grad(y, x) ** 2), x)
    assert all(built_at(node)[0] == HERE for node in own(twice))


# -- sets ------------------------------------------------------------------------------------------


def test_writing_it_again_adds_the_other_line() -> None:
    x = fresh("i")
    y, first = gx.exp(x), line()
    z, second = gx.exp(x), line()
    assert y is z
    assert [event.line for event in y.origin] == [first, second]
    for _ in range(5):
        _ = gx.exp(x)
    assert len(y.origin) == 3


def test_the_set_is_bounded() -> None:
    x = fresh("j")
    y = gx.exp(x)
    source = "\n".join(["gx.exp(x)"] * 100)
    for name in ("one.py", "two.py"):
        exec(compile(source, name, "exec"), {"__name__": "m", "gx": gx, "x": x})
    assert len(y.origin) == LIMIT


def test_origins_change_neither_digests_nor_code() -> None:
    x = fresh("k")
    y = gx.exp(x) * 3
    before = y.digest
    source = "\n" * 50 + "gx.exp(x) * 3"
    exec(compile(source, "elsewhere.py", "exec"), {"__name__": "m", "gx": gx, "x": x})
    assert len(y.origin) == 2 and y.digest == before


def test_a_function_keeps_the_origins_that_it_was_compiled_with() -> None:
    x, i = fresh("l"), gx.vector("positions of origins", "m", "int64")
    y, here = gx.take(x, i), line()
    f = gx.compile([x, i], [y], options=gx.Options(cache=False))
    for other in (f, pickle.loads(pickle.dumps(f))):
        with pytest.raises(IndexError, match=f":{here}"):
            other(np.ones(3), [5])


def test_pickles_carry_origins() -> None:
    x = fresh("m")
    y, here = gx.exp(x) * 7, line()
    data = pickle.dumps(y)
    del x, y
    gc.collect()
    assert built_at(pickle.loads(data)) == (HERE, here)


# -- the switch ------------------------------------------------------------------------------------


def test_switched_off() -> None:
    with gx.origins(False):
        x = fresh("n")
        y = gx.sum(gx.tanh(x))
        slope = gx.grad(y, x)
        assert not any(node.origin for root in (slope, y) for node in own(root))
        with gx.origins(True):
            assert built_at(gx.exp(x)) == (HERE, line())
        assert not gx.log(x).origin
    assert built_at(gx.tanh(x * 3))[0] == HERE


def test_the_switch_is_restored_after_an_error_and_belongs_to_one_thread() -> None:
    x = fresh("o")
    with pytest.raises(gx.GraphError), gx.origins(False):
        x + np.ones(7)
    assert gx.exp(x).origin
    found = []
    with gx.origins(False):
        thread = threading.Thread(target=lambda: found.append(gx.log(x).origin))
        thread.start()
        thread.join()
    assert found[0]


def test_errors_without_origins_still_say_what_is_wrong() -> None:
    with gx.origins(False):
        x, i = fresh("p"), gx.vector("other positions of origins", "m", "int64")
        f = gx.compile([x, i], [gx.take(x, i)])
    with pytest.raises(IndexError, match="index 5 is out of range") as caught:
        f(np.ones(3), [5])
    assert "built at" not in str(caught.value)
    with pytest.raises(ValueError, match="got shape") as caught:
        f(np.ones(4), [0])
    assert "built at" not in str(caught.value)


def test_events_keep_no_node_alive() -> None:
    gc.collect()
    before = interned_count()
    x = fresh("q")
    y = gx.grad(gx.sum(gx.tanh(x)), x)
    assert y.origin
    del x, y
    gc.collect()
    assert interned_count() <= before
