"""09. A sparse Jacobian, for Newton's method.

Which elements of an equation depend on which unknowns is read off the graph. Columns that no row
shares are computed in one direction, and a call gives SciPy's sparse matrix.

Run me:  python examples/09_sparse_newton.py      (needs SciPy)
"""

import numpy as np
from scipy.sparse.linalg import spsolve

import graphc as gx

N = 60
SPACING = 1 / (N + 1)

# Bratu's equation on a square: the Laplacian of u plus 5 exp(u) is 0, and u is 0 around it.
u = gx.symbol("u", (N, N))
edged = gx.pad(u, 1)
around = edged[2:, 1:-1] + edged[:-2, 1:-1] + edged[1:-1, 2:] + edged[1:-1, :-2]
residual = around - 4 * u + SPACING**2 * 5 * gx.exp(u)

jacobian = gx.jacobian(residual, u, sparse=True)
print(jacobian)
begin, end = jacobian.pattern.indptr[:2]
print("row 0 holds columns", jacobian.pattern.indices[begin:end].tolist())

f = gx.compile([u], [residual, jacobian])
point = np.zeros((N, N))
for step in range(8):
    value, matrix = f(point)
    size = np.abs(value).max()
    print(f"step {step}: residual {size:.1e}")
    if size < 1e-12:
        break
    point -= spsolve(matrix.tocsc(), value.ravel()).reshape(N, N)
assert size < 1e-12
print(f"u in the middle: {point[N // 2, N // 2]:.4f}, by {type(matrix).__name__}")

# An energy has a sparse Hessian, from its own pattern: here the terms of neighbours.
energy = gx.sum((u[1:] - u[:-1]) ** 2) + gx.sum((u[:, 1:] - u[:, :-1]) ** 2) - gx.sum(gx.exp(u))
print(gx.hessian(energy, u, sparse=True))

# A dense Jacobian that is too large is refused before anything is computed.
large = gx.vector("large", 200_000)
try:
    gx.jacobian(gx.sin(large), large)
except gx.GraphError as error:
    print("refused:", error)
