"""What does a course in numerics compute?  Quadrature, roots, series, splines, integers."""

from __future__ import annotations

import math

import numpy as np

from tests.everyday.case import everyday, increasing, integers, mask, number, positive, uniform


@everyday("n")
def trapezoid(y):
    h = 1.0 / (len(y) - 1)
    return h * (y.sum() - 0.5 * (y[0] + y[-1]))


@everyday("11")
def simpson(y):
    return 0.1 / 3 * (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum())


@everyday(increasing("n"), "n")
def uneven_trapezoid(x, y):
    return np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2


@everyday(increasing("n"), "n")
def cumulative_trapezoid(x, y):
    return np.concatenate([[0.0], np.cumsum(np.diff(x) * (y[1:] + y[:-1]) / 2)])


@everyday(uniform("", 0.5, 2))
def gauss_legendre(a):
    nodes, weights = np.polynomial.legendre.leggauss(5)
    return np.sum(weights * np.exp(-a * nodes**2))


@everyday(positive("n"))
def newton_square_root(a):
    x = a
    for _ in range(6):
        x = 0.5 * (x + a / x)
    return x


@everyday(positive("n"), smooth=False)
def bisection(target):
    low, high = np.zeros_like(target), np.full_like(target, 3.0)
    for _ in range(30):
        mid = (low + high) / 2
        left = mid**2 < target
        low, high = np.where(left, mid, low), np.where(left, high, mid)
    return (low + high) / 2


@everyday(uniform("n", -1, 1))
def taylor_exponential(x):
    return sum(x**k / math.factorial(k) for k in range(10))


@everyday(uniform("n", -1, 1))
def chebyshev_polynomials(x):
    t = [np.ones_like(x), x]
    for _ in range(4):
        t.append(2 * x * t[-1] - t[-2])
    return np.stack(t, axis=-1)


@everyday(increasing("5"), "5", uniform("n", 0.2, 2))
def lagrange_interpolation(nodes, values, x):
    total = 0
    for i in range(5):
        others = np.delete(np.arange(5), i)
        total = total + values[i] * np.prod(
            (x[:, None] - nodes[others]) / (nodes[i] - nodes[others]), axis=1
        )
    return total


@everyday("4")
def divided_differences(y):
    x = np.array([0.0, 1.0, 2.5, 4.0])
    coefficients = [y[0]]
    level = y
    for k in range(1, 4):
        level = (level[1:] - level[:-1]) / (x[k:] - x[:-k])
        coefficients.append(level[0])
    return np.array(coefficients)


@everyday("n", uniform("m", 0, 4))
def catmull_rom(p, t):
    i = np.clip(t.astype(int), 0, 2)
    u = t - i
    p0, p1, p2, p3 = p[i], p[i + 1], p[i + 2], p[i + 3]
    return p1 + 0.5 * u * (
        p2 - p0 + u * (2 * p0 - 5 * p1 + 4 * p2 - p3 + u * (3 * (p1 - p2) + p3 - p0))
    )


@everyday("5")
def tridiagonal_solve(d):
    a, b, c = -1.0, 4.0, -1.0
    cp, dp = [c / b], [d[0] / b]
    for i in range(1, 5):
        m = b - a * cp[-1]
        cp.append(c / m)
        dp.append((d[i] - a * dp[-1]) / m)
    x = [dp[-1]]
    for i in range(3, -1, -1):
        x.insert(0, dp[i] - cp[i] * x[0])
    return np.stack(x)


@everyday("2")
def rosenbrock(p):
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


@everyday("n")
def rosenbrock_many(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)


@everyday(uniform("n", -4, 4))
def ackley(x):
    n = len(x)
    a = -20 * np.exp(-0.2 * np.sqrt(np.sum(x**2) / n))
    return a - np.exp(np.sum(np.cos(2 * np.pi * x)) / n) + 20 + np.e


@everyday("n")
def log_sum_exp(x):
    m = x.max()
    return m + np.log(np.exp(x - m).sum())


@everyday("n")
def kahan_pairs(x):
    total, lost = 0.0, 0.0
    for i in range(5):
        y = x[i] - lost
        t = total + y
        lost, total = (t - total) - y, t
    return total


@everyday(integers("n", 1, 100), integers("n", 1, 100), smooth=False)
def greatest_common_divisor(a, b):
    for _ in range(10):
        a, b = np.where(b == 0, a, b), np.where(b == 0, 0, a % np.maximum(b, 1))
    return a


@everyday(integers("n", 1, 100), smooth=False)
def collatz_step(n):
    return np.where(n % 2 == 0, n // 2, 3 * n + 1)


@everyday(integers("n", 0, 50), smooth=False)
def is_prime(n):
    divisors = np.arange(2, 8)
    divides = (n[:, None] % divisors == 0) & (n[:, None] > divisors)
    return (n > 1) & ~divides.any(axis=1)


@everyday(integers("n", 0, 1000), smooth=False)
def digit_sum(n):
    powers = 10 ** np.arange(4)
    return ((n[:, None] // powers) % 10).sum(axis=1)


@everyday(integers("n", 1, 3000), smooth=False)
def leap_year(year):
    return np.logical_or(np.logical_and(year % 4 == 0, year % 100 != 0), year % 400 == 0)


@everyday(integers("n", 0, 20), smooth=False)
def fibonacci_pairs(start):
    a, b = start, start + 1
    for _ in range(5):
        a, b = b, a + b
    return np.stack([a, b], axis=1)


@everyday(integers("n", 0, 2**20, "uint32"), smooth=False)
def xorshift(state):
    state = state ^ (state << np.uint32(13))
    state = state ^ (state >> np.uint32(17))
    return state ^ (state << np.uint32(5))


@everyday(integers("n", 0, 100), integers("m", 0, 100), smooth=False)
def membership(values, allowed):
    return np.isin(values, allowed), (values[:, None] == allowed).any(axis=1)


@everyday(integers("m k", 0, 9), smooth=False)
def magic_sums(square):
    return square.sum(0), square.sum(1), np.trace(square), square.max() - square.min()


@everyday("n")
def partial_sums_alternating(x):
    sign = (-1) ** np.arange(len(x))
    return np.cumsum(sign * x)


@everyday("m", "n", "k")
def grid_function(x, y, z):
    xx, yy, zz = np.meshgrid(x, y, z, indexing="ij")
    return np.sin(xx) * np.cos(yy) + zz**2


@everyday("m", "n")
def open_grid(x, y):
    a, b = np.ix_(x, y)
    return a * b + a


@everyday("n", "n")
def piecewise_function(x, y):
    return np.piecewise(x, [x < 0, x >= 0], [lambda t: -t, lambda t: t**2]) + y


@everyday("n", smooth=False)
def sign_and_steps(x):
    return np.sign(x), np.heaviside(x, 0.5), np.ceil(x), np.trunc(x), np.rint(x)


@everyday("n m", "m")
def in_place_style(x, bias):
    x = x.copy()
    x += bias
    x *= 2
    x -= x.mean(axis=0)
    return x


@everyday("n m", mask("n m"))
def replace_where(x, bad):
    return np.where(bad, 0.0, x).sum(axis=1) / np.maximum((~bad).sum(axis=1), 1)


@everyday("n m")
def axis_tricks(x):
    y = x[None, ..., None]
    y = np.swapaxes(y, 1, 2)
    return np.squeeze(y), y.ndim, np.expand_dims(x, (0, 2)), np.moveaxis(y, 1, -1)


@everyday("n m", smooth=False)
def order_columns_by_norm(x):
    return x[:, np.argsort(np.linalg.norm(x, axis=0))[::-1]]


@everyday("n m")
def row_reductions(x):
    return x.sum(1), x.prod(axis=1), np.ptp(x, axis=1)


@everyday("n 3")
def unpack_columns(x):
    a, b, c = x.T
    return np.vstack((a + b, b * c, np.fmax(a, c))).T


@everyday("n m")
def assemble_blocks(a):
    z = np.zeros((a.shape[0], 2))
    return np.block([[a, z], [np.ones((1, a.shape[1])), np.full((1, 2), 7.0)]])


@everyday("n", smooth=False)
def checks(x):
    return np.allclose(x, x + 1e-12), np.any(x > 1), np.all(np.isfinite(x)), np.array_equal(x, x)


@everyday("n", number(2), number(1.5))
def python_scalars(x, k, a):
    return a * x**k + k, k + 1, a / k


@everyday("12")
def split_and_join(x):
    first, second, third = np.split(x, 3)
    return np.hstack([third, first, second]), np.array_split(x, 5)[0]


@everyday("n", integers("m", 0, 6))
def gather_and_scatter(values, where):
    taken = np.take(values, where)
    return taken.sum(), values[where[::-1]] - taken


@everyday("n m", integers("n 1", 0, 4))
def pick_per_row(x, column):
    return np.take_along_axis(x, column, axis=1).squeeze(1)


@everyday("6 6")
def diagonals(a):
    return np.diagonal(a, offset=1), np.trace(a, 1), np.fliplr(a).diagonal(), np.tril(a, -1)
