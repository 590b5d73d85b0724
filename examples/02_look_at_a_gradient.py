"""02. Look at a gradient.

Differentiation takes a graph to a graph. There is no tape and no trace of a run: `gx.grad` applies
the chain rule to the expression and gives the expression of its derivative, which can be printed,
drawn, differentiated again, or compiled together with the value, so that what both need is computed
once.

Run me:  python examples/02_look_at_a_gradient.py
"""

import numpy as np

import graphc as gx

# Logistic loss of a linear model, written as a textbook has it: log(1 + exp(-margin)) would
# overflow for a margin of -1000.
x = gx.matrix("x", ("n", 3))
labels = gx.vector("labels", "n")  # -1.0 or 1.0
w = gx.vector("w", 3)
margin = labels * (x @ w)
loss = gx.mean(gx.log(1 + gx.exp(-margin)))

gradient = gx.grad(loss, w)
print(gx.show([loss, gradient]))

# Every node answers where it came from: a line of yours, or the derivative of a node that came from
# one.
print("origin of the gradient:", [str(event) for event in gradient.origin])

# Before anything is compiled, rewrite rules make the graph smaller and the numbers safer: log(1 +
# exp(z)) becomes softplus(z), and its derivative a sigmoid. Each firing is on record.
print(gx.explain([loss, gradient]))

f = gx.compile([x, labels, w], [loss, gradient])
far = np.full((2, 3), 500.0)
value, slope = f(far, np.array([-1.0, 1.0]), np.ones(3))
print("no overflow at a margin of -1500:", value, slope)
assert value == 750.0
assert np.array_equal(slope, [250.0, 250.0, 250.0])

# The gradient is itself a graph, so second derivatives need nothing new.
curvature = gx.hvp(loss, w, gx.constant(np.array([1.0, 0.0, 0.0])))
print("one column of the Hessian:", repr(curvature))

# Never trust a derivative without a check: this compares with differences of the loss, and raises
# if they disagree.
generator = np.random.default_rng(0)
point = {
    x: generator.normal(size=(4, 3)),
    labels: np.array([1.0, -1.0, 1.0, -1.0]),
    w: generator.normal(size=3),
}
gx.check_grad(loss, w, point)
print("the gradient agrees with differences")
