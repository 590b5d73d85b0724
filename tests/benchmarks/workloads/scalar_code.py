"""How fast is scalar code of some thousand operations, with its dense Jacobian?"""

from __future__ import annotations

from typing import Any

import numpy as np
import workload
from workload import Values

TITLE = "motion of a chain of seven links, 14 equations, and its 14x14 Jacobian"
VARIANTS = ("f64 point", "f64 batch")
LINKS, POINTS = 7, 10_000
MASSES = [0.8 + 0.15 * i for i in range(LINKS)]
LENGTHS = [0.6 - 0.03 * i for i in range(LINKS)]
GRAVITY, FRICTION, ROTOR = 9.81, 0.1, 0.02


def tolerance(variant: str) -> float:
    return 1e-9


def inputs(variant: str) -> Values:
    """Angles, then their rates; points along the last axis."""
    generator = np.random.default_rng(18)
    points = POINTS if variant.endswith("batch") else 1
    return {"x": generator.normal(size=(2 * LINKS, points))}


def operations(variant: str) -> float:
    """Of the straight-line program, common sub-expressions counted once."""
    return 4800.0 * (POINTS if variant.endswith("batch") else 1)


def motion(x: Any, sin: Any, cos: Any) -> list[Any]:
    """Rates of angles and of rates, from Lagrange's equations of a planar chain of point masses.

    The mass matrix is symmetric and positive definite: factored as L D L^T, without a square root.
    """
    angle, rate = x[:LINKS], x[LINKS:]
    beyond = [sum(MASSES[i:]) for i in range(LINKS)]
    mass: list[list[Any]] = [[] for _ in range(LINKS)]
    force = [-beyond[i] * GRAVITY * LENGTHS[i] * sin(angle[i]) - FRICTION * rate[i]
             for i in range(LINKS)]
    squares = [r * r for r in rate]
    for i in range(LINKS):
        for j in range(i):
            coupling = beyond[i] * LENGTHS[i] * LENGTHS[j]
            turned = angle[i] - angle[j]
            mass[i].append(coupling * cos(turned))
            swing = coupling * sin(turned)
            force[i] = force[i] - swing * squares[j]
            force[j] = force[j] + swing * squares[i]
        wobble = cos(angle[i])
        mass[i].append(beyond[i] * LENGTHS[i] ** 2 + ROTOR * wobble * wobble)
    return [*rate, *_solved(mass, force)]


def _solved(mass: list[list[Any]], force: list[Any]) -> list[Any]:
    lower: list[list[Any]] = []
    pivots: list[Any] = []
    for i in range(LINKS):
        scaled: list[Any] = []  # row i of L times D
        for j in range(i):
            scaled.append(mass[i][j] - _dot(scaled, lower[j]) if j else mass[i][j])
        lower.append([a / d for a, d in zip(scaled, pivots, strict=True)])
        pivots.append(mass[i][i] - _dot(scaled, lower[i]) if i else mass[i][i])
    forward: list[Any] = []
    for i in range(LINKS):
        forward.append(force[i] - _dot(lower[i], forward) if i else force[i])
    solution: list[Any] = [None] * LINKS
    for i in reversed(range(LINKS)):
        solution[i] = forward[i] / pivots[i]
        for k in range(i + 1, LINKS):
            solution[i] = solution[i] - lower[k][i] * solution[k]
    return solution


def _dot(a: list[Any], b: list[Any]) -> Any:
    terms = [x * y for x, y in zip(a, b, strict=False)]
    return sum(terms[1:], terms[0])


def by_complex_step(values: Values, variant: str) -> list[np.ndarray]:
    """Derivatives exact to rounding: the imaginary part of the function a tiny step aside."""
    x, step = values["x"], 1e-30
    columns = []
    for j in range(len(x)):
        moved = x.astype(complex)
        moved[j] += 1j * step
        columns.append(np.imag(np.array(motion(list(moved), np.sin, np.cos))) / step)
    return [np.array(motion(list(x), np.sin, np.cos)), np.stack(columns, axis=1)]


reference = by_complex_step


def of_graphc(variant: str, x: Any) -> Any:
    import graphc as gx

    xs = [x[i] for i in range(2 * LINKS)]
    xs = xs if variant.endswith("batch") else [gx.squeeze(each) for each in xs]
    rates = motion(xs, gx.sin, gx.cos)
    tangents = [gx.jvp(rates, each, gx.ones_like(each)) for each in xs]
    return [gx.stack(rates), gx.stack([gx.stack(column) for column in zip(*tangents, strict=True)])]


def of_jax(variant: str, x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def rates(x: Any) -> Any:
        return jnp.stack(motion([x[i] for i in range(2 * LINKS)], jnp.sin, jnp.cos))

    def both(x: Any) -> Any:
        return rates(x), jax.jacfwd(rates)(x)

    return jax.vmap(both, in_axes=1, out_axes=-1)(x) if variant.endswith("batch") else both(x[:, 0])


def of_casadi(values: Values, variant: str) -> Any:
    """Its C code, compiled with -O3, called for one point after the other."""
    import ctypes
    import subprocess
    import tempfile
    from pathlib import Path

    import casadi

    symbol = casadi.SX.sym("x", 2 * LINKS)
    rates = casadi.vertcat(*motion(casadi.vertsplit(symbol), casadi.sin, casadi.cos))
    matrix = casadi.densify(casadi.jacobian(rates, symbol)).T
    f = casadi.Function("f", [symbol], [casadi.densify(rates), matrix])
    folder = Path(tempfile.mkdtemp())
    code = casadi.CodeGenerator("f.c")
    code.add(f)
    code.generate(f"{folder}/")
    loop = """
    void run(const double *x, double *y, double *j, long long n) {
      double at[14], w[SIZE]; long long iw[1];
      for (long long p = 0; p < n; p++) {
        for (int i = 0; i < 14; i++) at[i] = x[i * n + p];
        const double *arg[4] = {at}; double *res[4] = {y + 14 * p, j + 196 * p};
        f(arg, res, iw, w, 0);
      }
    }""".replace("SIZE", str(f.sz_w() + 1))
    with (folder / "f.c").open("a") as file:
        file.write(loop)
    command = "gcc -O3 -march=native -ffast-math -shared -fPIC f.c -of.so -lm"
    subprocess.run(command.split(), check=True, cwd=folder)
    run = ctypes.CDLL(str(folder / "f.so")).run
    x, points = values["x"], values["x"].shape[1]
    y, j = np.empty((points, 14)), np.empty((points, 14, 14))
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, j)]
    count = ctypes.c_longlong(points)

    def called() -> Any:
        run(*addresses, count)
        return [y.T, j.transpose(1, 2, 0)]

    return called


def of_heyoka(values: Values, variant: str) -> Any:
    import heyoka

    xs = list(heyoka.make_vars(*[f"x{i}" for i in range(2 * LINKS)]))
    rates = motion(xs, heyoka.sin, heyoka.cos)
    tensors = heyoka.diff_tensors(rates, diff_args=xs, diff_order=1)
    f = heyoka.cfunc([*rates, *tensors.jacobian.flat], xs)
    x, out = values["x"], np.empty((2 * LINKS * (2 * LINKS + 1), values["x"].shape[1]))

    def run() -> Any:
        f(x, outputs=out)
        return [out[: 2 * LINKS], out[2 * LINKS :].reshape(2 * LINKS, 2 * LINKS, -1)]

    return run


def of_symengine(values: Values, variant: str) -> Any:
    """Compiled by its LLVM back end, common sub-expressions found; it takes point after point."""
    import symengine

    xs = [symengine.Symbol(f"x{i}") for i in range(2 * LINKS)]
    rates = motion(xs, symengine.sin, symengine.cos)
    matrix = [rate.diff(x) for rate in rates for x in xs]
    f = symengine.Lambdify(xs, [*rates, *matrix], backend="llvm", cse=True, order="C")
    x = np.ascontiguousarray(values["x"].T)
    out = np.empty((len(x), 2 * LINKS * (2 * LINKS + 1)))

    def run() -> Any:
        f(x, out=out)
        return [out.T[: 2 * LINKS], out.T[2 * LINKS :].reshape(2 * LINKS, 2 * LINKS, -1)]

    return run


PARTICIPANTS = {
    "graphc": workload.graphc(of_graphc),
    "numpy": workload.numpy(by_complex_step),
    "jax": workload.jax(of_jax),
    "casadi": of_casadi,
    "heyoka": of_heyoka,
    "symengine": of_symengine,
}
