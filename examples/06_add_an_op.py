"""06. Add an op.

The set of operations is open. An op is one record that says everything about it: its type rule, its
NumPy meaning, its derivative, and its kernel, which is a procedure over a few dozen scalar
instructions. No backend knows any op by name, so a new op is differentiated, fused, compiled and
printed as CUDA C++ like one of graphc's own.

The example is the SiLU activation, x * sigmoid(x). graphc has one already, called "silu"; names of
ops are unique, so this one is "my_silu".

Run me:  python examples/06_add_an_op.py
"""

import numpy as np

import graphc as gx
from graphc.op import Interval, elementwise
from graphc.ops.operands import operands


def silu_numpy(x):
    """The truth that every backend is compared with: slow is fine, wrong is not."""
    return (x / (1 + np.exp(-x))).astype(x.dtype)


def silu_kernel(k, x):
    """One element. `k` has a method for each scalar instruction; `call` inlines a mathematical
    function.
    """
    return k.mul(x, k.call("sigmoid", x))


def silu_partials(x, result):
    """The derivative as a graph: with s = sigmoid(x), it is s + x s (1 - s) = s + silu(x) (1 - s).
    """
    s = gx.sigmoid(x)
    return (s + result * (1 - s),)


silu_op = elementwise(
    "my_silu",
    numpy=silu_numpy,
    kernel=silu_kernel,
    partials=silu_partials,
    kinds="f",  # floats only
    cost=30,  # about as many additions: decides whether a value is computed again or stored
    domain=(Interval(-8, 8),),
    text="silu({})",
)


def silu(x):
    """What users call. `operands` turns numbers and arrays into nodes and integers into floats."""
    return silu_op(*operands("silu", x, real=True))


x = gx.vector("x", "n")
cost = gx.sum(silu(x) ** 2)
gradient = gx.grad(cost, x)
print(gradient)

# Checked against differences of the cost, like any derivative.
points = np.linspace(-4, 4, 9)
gx.check_grad(cost, x, {x: points})

# And the whole record: type rule, values on every backend, both derivatives, `vmap`, laws.
found = gx.check_op(silu_op)
print(found)
assert found

# Compiled: silu, the square and the sum are one kernel (and one that combines partial sums); the
# gradient is another.
f = gx.compile([x], [cost, gradient])
value, slope = f(points)
want = gx.evaluate([cost, gradient], {x: points})
assert np.allclose(value, want[0], rtol=1e-13)
assert np.allclose(slope, want[1], rtol=1e-13)
print("compiled and evaluated agree:", value)

# And printed for a GPU, with nothing more to say about it.
assert "__global__" in gx.emit([x], gradient, target="cuda").text
