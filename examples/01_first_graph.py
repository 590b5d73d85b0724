"""01. A first graph.

graphc does not compute when you write an expression: it builds a *graph* of it. `x * y` is a node
that knows its operation, its operands, its shape and its dtype. From a graph one can get numbers,
derivatives, drawings and machine code, in any order and as often as one likes.

Run me:  python examples/01_first_graph.py
"""

import numpy as np

import graphc as gx

# A symbol stands for an array that comes later. `n` is a named dimension: the graph holds for every
# size.
x = gx.vector("x", "n")
y = gx.vector("y", "n")

# NumPy's operators and names build nodes. NumPy's own functions do as well: np.tanh(x) is the same
# node as gx.tanh(x).
distance = gx.sqrt(gx.sum((x - y) ** 2))
print("one line:", repr(distance))

# Printing shows the graph as a numbered listing, each node once, with its type.
print(distance)

# Equal expressions are one object. So what you write twice is computed once, without any search for
# it later.
again = gx.sqrt(gx.sum((x - y) ** 2))
assert again is distance
assert np.sqrt(np.sum((x - y) ** 2)) is distance

# The evaluator runs each operation's NumPy function, step by step. It is slow and plain: the truth
# that compiled code is compared with.
a, b = np.array([0.0, 0.0]), np.array([3.0, 4.0])
print("evaluated:", gx.evaluate(distance, {x: a, y: b}))

# Compiling gives a function of arrays. It is native code: no Python runs between the operations.
f = gx.compile([x, y], distance)
print("compiled:", f(a, b))
assert f(a, b) == 5.0
assert f(np.zeros(100), np.ones(100)) == 10.0  # another size, the same code

# Mistakes are found while the graph is built, and the message names your line.
try:
    gx.vector("u", 3) + gx.vector("v", 4)
except gx.GraphError as error:
    print("refused:", error)
