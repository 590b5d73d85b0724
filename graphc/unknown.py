"""Why has an expression no value here, and what can be written instead?

Python asks for values in few ways: `if` for a truth value, `float` and `math` for a number, `range`
and an index for an integer, `np.asarray` for an array. Each has an answer of its own, and the
message names the line that asked, which is the one to change.
"""

from __future__ import annotations

from typing import Any, NoReturn

from graphc import tracing
from graphc.errors import GraphTypeError
from graphc.origin import location, user_frame, user_instruction

_NUMBER = "Functions of math have equals here, gx.sin for math.sin."
_ADVICE = {
    "truth value": "Use gx.where(condition, a, b) for a choice by element, gx.cond between two "
    "computations.",
    "float value": _NUMBER,
    "int value": _NUMBER,
    "complex value": _NUMBER,
    "integer value": "range, shapes, axes and list indices need numbers; gx.fori_loop and gx.scan "
    "loop, gx.take reads at computed positions.",
    "array value": "Call functions of graphc or NumPy on the expression itself; gx.stack makes one "
    "of several.",
}
# What to do where an array of NumPy is asked for an item, by the instruction that asks.
_ITEM_ADVICE = {
    "STORE_SUBSCR": "An array of NumPy takes no expression: make the array an expression, "
    "out = gx.zeros(shape),\nand then out = out.at[key].set(value); or collect the parts in a list "
    "for np.stack.",
    "BINARY_SUBSCR": "An array of NumPy is read at computed positions by "
    "gx.take(array, positions, axis=0).",
}


def refuse(node: Any, what: str) -> NoReturn:
    """Raise the `GraphTypeError` for Python asking for the `what` of an expression."""
    _note_extents(node)
    built, asked = location(node.origin), location(user_frame(2))
    lines = [
        f"the {what} of an expression is not known while the graph is built",
        f"expression: {node.op.name}, {node.type!r}" + (f", built at {built}" if built else ""),
    ]
    if asked and asked != built:
        lines.append(f"asked for at {asked}")
    lines.append(_ITEM_ADVICE.get(user_instruction(2)) or _ADVICE[what])
    lines.append(_static_advice(node) or "Use gx.evaluate or gx.compile to get numbers.")
    raise GraphTypeError("\n".join(lines))


def _note_extents(node: Any) -> None:
    """If the value follows from extents alone, their numbers are all that is missing."""
    from graphc.node import topological

    if tracing.current() is None:
        return
    behind = topological([getattr(node, "node", node)])
    leaves = [n for n in behind if not n.args]
    if all(n.op.name in ("extent", "constant") for n in leaves):
        for leaf in leaves:
            if leaf.op.name == "extent":
                tracing.want_number(leaf.attrs["extent"])


def _static_advice(node: Any) -> str:
    """For a function that is traced: on which of its arguments the expression depends."""
    from graphc.node import topological

    trace = tracing.current()
    if trace is None:
        return ""
    # A weak scalar stands for a node.
    behind = topological([getattr(node, "node", node)])
    traced = [n for n in behind if n in trace.labels]
    names = list(dict.fromkeys(trace.labels[n] for n in traced))
    if not names:
        return ""
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    depends = f"It depends on {listed}, traced by gx.jit of {trace.title}"
    if any(n.shape for n in traced):
        return f"{depends}."
    first = names[0].partition("[")[0].partition(".")[0]
    return (
        f"{depends}; for an argument that takes few values:\n"
        f"make it static, gx.jit(static_argnames={first!r})."
    )
