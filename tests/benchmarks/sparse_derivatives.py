"""How many directions and how much time does a sparse derivative take, beside CasADi's?

    python tests/benchmarks/sparse_derivatives.py                     all cases
    python tests/benchmarks/sparse_derivatives.py -c bundle,grid_2d   some of them
    python tests/benchmarks/sparse_derivatives.py --size 20000        of another size
    python tests/benchmarks/sparse_derivatives.py --cold              with an empty cache of kernels

For each case the same formulas are written once, with whichever library's functions, and the values
of both matrices are compared before anything is reported. `pattern` is the time to the sparsity,
`colours` that to a colouring of it; `derivative` is all that a user waits for before the first
matrix, these two and the compiler included, or CasADi's construction of its Function; `matrix` is
the least time of a call. CasADi is run both with matrix-valued nodes (MX) and with scalar ones (SX)
where those are not too many, and on its virtual machine, as most use it. Everything in one process,
on one thread, in turn, after a small problem that loads both libraries; the seconds are the
processor's.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]
ADBENCH = Path("/work/shared/data/adbench/ba/ba1_n49_m7776_p31843.txt")


@dataclass(frozen=True)
class Language:
    """What the formulas use: functions of one library, and how it reads parts of a vector."""

    exp: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    take: Callable[[Any, Any], Any]
    join: Callable[[Sequence[Any]], Any]
    total: Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """`formula(language, x)` of a vector x of `size`; `second` if its Hessian is wanted."""

    title: str
    size: int
    formula: Callable[[Language, Any], Any]
    point: Any
    second: bool = False
    scalar: bool = True
    grid: tuple[int, ...] = ()


# -- the formulas ----------------------------------------------------------------------------------


def reaction_diffusion(shape: Sequence[int], species: int = 1) -> Case:
    """An implicit Euler step of Fisher's equation, or of the Brusselator, periodic in space."""
    points = int(np.prod(shape))
    numbers = np.arange(points).reshape(shape)
    rolls = [np.roll(numbers, s, a).ravel() for a in range(len(shape)) for s in (1, -1)]

    def diffusion(of: Language, u: Any) -> Any:
        return sum((of.take(u, roll) for roll in rolls[1:]), of.take(u, rolls[0])) - len(rolls) * u

    def one(of: Language, x: Any) -> Any:
        return x - 0.1 * (diffusion(of, x) + x * (1 - x) * of.exp(-x))

    def two(of: Language, x: Any) -> Any:
        u, v = of.take(x, np.arange(points)), of.take(x, np.arange(points, 2 * points))
        cube = u * u * v
        first = u - 0.1 * (diffusion(of, u) + 1 + cube - 4 * u)
        return of.join([first, v - 0.1 * (diffusion(of, v) + 3 * u - cube)])

    size = points * species
    grid = tuple(shape) if species == 1 else (species, *shape)
    title = f"reaction-diffusion, {species} species, {' x '.join(map(str, shape))}"
    return Case(title, size, one if species == 1 else two, _point(size), grid=grid)


def convection(shape: Sequence[int]) -> Case:
    """Burgers' equation with a value of 0 around, differences upwind and diagonal neighbours."""
    padded = tuple(n + 2 for n in shape)
    inner = np.arange(int(np.prod(padded))).reshape(padded)[(slice(1, -1),) * len(shape)].ravel()
    strides = [int(np.prod(padded[axis + 1 :])) for axis in range(len(shape))]
    places = np.full(int(np.prod(padded)), -1)
    points = int(np.prod(shape))
    places[inner] = np.arange(points)

    def residual(of: Language, x: Any) -> Any:
        def beside(step: int) -> Any:
            found = places[inner + step]
            return of.take(x, np.maximum(found, 0)) * (found >= 0).astype(float)

        change = x - beside(-strides[0])
        for stride in strides[1:]:
            change = change + x - beside(-stride)
        diagonal = sum(strides)
        spread = beside(diagonal) + beside(-diagonal) - 2 * x
        for stride in strides:
            spread = spread + beside(stride) + beside(-stride) - 2 * x
        return x + 0.1 * (x * change - spread * of.sqrt(1 + x * x))

    title = f"convection and diffusion with an edge, {' x '.join(map(str, shape))}"
    return Case(title, points, residual, _point(points), grid=tuple(shape))


def control(points: int) -> Case:
    """A state along a line, a force that all of it feels, and the mean that is asked of it: one
    full column and one full row.
    """

    def residual(of: Language, x: Any) -> Any:
        state, force = of.take(x, np.arange(points)), of.take(x, np.full(points, points))
        left = of.take(x, np.maximum(np.arange(points) - 1, 0))
        right = of.take(x, np.minimum(np.arange(points) + 1, points - 1))
        balance = 2 * state - left - right + 0.1 * of.exp(-state) * force
        return of.join([balance, of.total(state * state) - of.take(x, np.array([points]))])

    return Case("a line with one full column and one full row", points + 1, residual,
                _point(points + 1))  # fmt: skip


def surface_energy(shape: Sequence[int]) -> Case:
    """The Hessian of the area of a surface over a grid, with a quartic well."""
    points = int(np.prod(shape))
    numbers = np.arange(points).reshape(shape)
    steps = [np.roll(numbers, -1, axis).ravel() for axis in range(len(shape))]

    def energy(of: Language, x: Any) -> Any:
        slopes = [of.take(x, step) - x for step in steps]
        return of.total(of.sqrt(1 + sum(s * s for s in slopes)) + x * x * x * x)

    title = f"Hessian of a surface's energy, {' x '.join(map(str, shape))}"
    return Case(title, points, energy, _point(points), second=True, grid=tuple(shape))


def chain_energy(links: int) -> Case:
    """The Hessian of an energy of neighbours and one point that all others are tied to."""

    def energy(of: Language, x: Any) -> Any:
        first, rest = of.take(x, np.zeros(links - 1, np.int64)), of.take(x, np.arange(1, links))
        step = of.take(x, np.arange(2, links)) - of.take(x, np.arange(1, links - 1))
        return of.total(of.exp(-first * rest)) + of.total(of.sqrt(1 + step * step))

    return Case("Hessian of a chain tied to one point", links, energy, _point(links), second=True)


def bundle_adjustment() -> Case:
    """ADBench's residuals (Srajer, Kukelova and Fitzgibbon 2018): reprojection and weights."""
    numbers = ADBENCH.read_text().split()
    cameras, points, sights = map(int, numbers[:3])
    camera, point, weight, feature = np.split(np.array(numbers[3:], float), np.cumsum([11, 3, 1]))
    random = np.random.default_rng(0)
    at = np.concatenate([np.tile(camera, cameras), np.tile(point, points), np.full(sights, weight)])
    at = at * random.uniform(0.99, 1.01, at.shape)
    who, what = np.arange(sights) % cameras, np.arange(sights) % points

    def residuals(of: Language, x: Any) -> Any:
        c = [of.take(x, 11 * who + i) for i in range(11)]
        p = [of.take(x, 11 * cameras + 3 * what + i) for i in range(3)]
        w = of.take(x, 11 * cameras + 3 * points + np.arange(sights))
        moved = [a - b for a, b in zip(p, c[3:6], strict=True)]
        turned = rotated(of, c[:3], moved)
        u, v = turned[0] / turned[2], turned[1] / turned[2]
        r = u * u + v * v
        bent = 1 + c[9] * r + c[10] * r * r
        ends = [c[6] * bent * a + b - f for a, b, f in zip((u, v), c[7:9], feature, strict=True)]
        return of.join([w * ends[0], w * ends[1], 1 - w * w])

    title = f"bundle adjustment, {cameras} cameras, {points} points, {sights} observations"
    return Case(title, len(at), residuals, at, scalar=False)


def rotated(of: Language, axis: Sequence[Any], x: Sequence[Any]) -> list[Any]:
    """Rodrigues' formula."""
    square = sum(a * a for a in axis[1:]) + axis[0] * axis[0]
    angle = of.sqrt(square)
    a = [each / angle for each in axis]
    sine, cosine = of.sin(angle), of.cos(angle)
    along = (a[0] * x[0] + a[1] * x[1] + a[2] * x[2]) * (1 - cosine)
    cross = [a[i - 2] * x[i - 1] - a[i - 1] * x[i - 2] for i in range(3)]
    return [x[i] * cosine + cross[i] * sine + a[i] * along for i in range(3)]


def _point(size: int) -> Any:
    return np.random.default_rng(size).uniform(0.1, 0.9, size)


# -- the participants ------------------------------------------------------------------------------


@dataclass
class Outcome:
    """Seconds, the number of directions, and the matrix."""

    name: str
    pattern: float = 0.0
    coloring: float = 0.0
    derivative: float = 0.0
    call: float = 0.0
    count: int = 0
    matrix: Any = None


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def least(work: Callable[[], Any], seconds: float = 1.0) -> float:
    work()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        times.append(timed(work)[0])
    return min(times)


def of_graphc(case: Case) -> Outcome:
    import graphc as gx
    from graphc.autodiff import compressed, star_coloring
    from graphc.autodiff.sparsity import linear_pattern
    from graphc.graph import placeholder

    language = Language(
        gx.exp, gx.sqrt, gx.sin, gx.cos, lambda x, i: x[i], gx.concatenate, gx.sum
    )
    made = Outcome("graphc")

    def built() -> tuple[Any, Any]:
        x = gx.symbol("x", case.grid or (case.size,))
        return x, case.formula(language, gx.reshape(x, (case.size,)))

    x, y = built()
    y = gx.grad(y, x) if case.second else y

    def pattern() -> Any:
        direction = placeholder(x.type)
        tangent = gx.jvp(y, x, direction)
        return linear_pattern(tangent, direction)

    def colored(found: Any) -> Any:
        if case.second:
            return star_coloring.color_symmetric(found, x.shape)[0]
        return compressed.plan_of(found, x.shape, y.shape)

    made.pattern, found = timed(pattern)
    made.coloring, coloring = timed(lambda: colored(found))
    made.count = coloring.count

    def whole() -> Any:
        x, y = built()
        derive = gx.hessian if case.second else gx.jacobian
        return gx.compile([x], derive(y, x, sparse=True), options=gx.Options(threads=1))

    made.derivative, f = timed(whole)
    point = case.point.reshape(x.shape)
    made.matrix = f(point)
    made.call = least(lambda: f(point))
    return made


def of_casadi(case: Case, kind: str) -> Outcome:
    import casadi
    from scipy.sparse import csc_array

    symbols = getattr(casadi, kind)
    language = Language(
        casadi.exp,
        casadi.sqrt,
        casadi.sin,
        casadi.cos,
        lambda x, i: x[i.tolist()],
        lambda parts: casadi.vertcat(*parts),
        casadi.sum1,
    )
    made = Outcome(f"CasADi {kind}")
    x = symbols.sym("x", case.size)
    y = case.formula(language, x)
    if case.second:
        y = casadi.gradient(y, x)

    made.pattern, found = timed(lambda: casadi.jacobian_sparsity(y, x))

    def colored() -> int:
        if case.second:
            return found.star_coloring().size2()
        return min(found.uni_coloring(found.T).size2(), found.T.uni_coloring(found).size2())

    made.coloring, made.count = timed(colored)

    def whole() -> Any:
        x = symbols.sym("x", case.size)
        y = case.formula(language, x)
        matrix = casadi.hessian(y, x)[0] if case.second else casadi.jacobian(y, x)
        return casadi.Function("f", [x], [matrix])

    made.derivative, f = timed(whole)
    result = f(case.point)
    made.matrix = csc_array(result.sparse())
    buffer, trigger = f.buffer()
    point, out = np.ascontiguousarray(case.point), np.empty(f.nnz_out(0))
    buffer.set_arg(0, memoryview(point))
    buffer.set_res(0, memoryview(out))
    made.call = least(trigger)
    return made


# -- the report ------------------------------------------------------------------------------------


def cases(size: int) -> dict[str, Callable[[], Case]]:
    side, edge, pair = round(size**0.5), round(size ** (1 / 3)), round((size / 2) ** 0.5)
    return {
        "grid_1d": lambda: reaction_diffusion((size,)),
        "grid_2d": lambda: reaction_diffusion((side, side)),
        "species": lambda: reaction_diffusion((pair, pair), 2),
        "grid_3d": lambda: reaction_diffusion((edge, edge, edge)),
        "edge_1d": lambda: convection((size,)),
        "edge_2d": lambda: convection((side, side)),
        "edge_3d": lambda: convection((edge, edge, edge)),
        "control": lambda: control(size // 50),
        "surface_1d": lambda: surface_energy((size,)),
        "surface": lambda: surface_energy((side, side)),
        "surface_3d": lambda: surface_energy((edge, edge, edge)),
        "chain": lambda: chain_energy(size // 20),
        "bundle": bundle_adjustment,
    }


def report(case: Case) -> None:
    print(f"\n## {case.title}: {case.size} variables\n")
    participants: list[Callable[[], Outcome]] = [lambda: of_graphc(case)]
    participants.append(lambda: of_casadi(case, "MX"))
    if case.scalar:
        participants.append(lambda: of_casadi(case, "SX"))
    first = None
    for participant in participants:
        try:
            made = participant()
        except ImportError as error:
            print(f"missing: {error}")
            continue
        if first is None:
            first = made
            print(f"{'':10} colours  pattern  colours  derivative    matrix   all (seconds)")
        else:
            gap = abs(first.matrix - made.matrix).max()
            assert gap <= 1e-9 * abs(made.matrix).max(), f"values differ by {gap}"
        total = made.derivative + made.call
        print(
            f"{made.name:10} {made.count:7} {made.pattern:8.3f} {made.coloring:8.3f} "
            f"{made.derivative:11.3f} {made.call:9.5f} {total:5.2f}   nnz {made.matrix.nnz}",
            flush=True,
        )
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-c", "--cases", default="")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--cold", action="store_true", help="with an empty cache of kernels")
    arguments = parser.parse_args()
    if arguments.cold:
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    small = reaction_diffusion((8, 8))
    of_graphc(small)
    with contextlib.suppress(ImportError):
        of_casadi(small, "MX")
    known = cases(arguments.size)
    for name in arguments.cases.split(",") if arguments.cases else known:
        report(known[name]())


if __name__ == "__main__":
    main()
