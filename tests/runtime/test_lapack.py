"""Does LAPACK, called inside of a call, give what the kernels of the ops give?

Held against the evaluator by what factors must fulfil, for last bits are the library's own; then
what surrounds a routine: failures, sizes that only a call knows, threads, the cache, and SciPy's
absence.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg.cython_lapack as home
import threadpoolctl
from places import run_python

import graphc as gx
from graphc import linalg
from graphc.codegen import lapack as routines
from graphc.codegen.interpret import run_kernel, run_program
from graphc.codegen.lapack import NOT_ASKED
from graphc.codegen.loops import Buffer, Kernel, KernelError, scopes, verify
from graphc.codegen.scalar import Library, Scope, walk
from graphc.dims import Dim
from graphc.errors import CompileError
from graphc.ops import lapack as decompositions
from graphc.runtime import lapack
from tests.ops.test_linear_algebra import close, positive
from tests.ops.test_spectra import check_orthonormal, random_matrices, transposed

OPTIONS = gx.Options(library="lapack", cache=False, debug=True, threads=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread_of_openblas() -> Iterator[None]:
    """Its threads wait for each other at work, for seconds where others use the processor."""
    with threadpoolctl.threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        yield


def compiled(make: Callable[..., Any], *arrays: Any, options: Any = OPTIONS) -> Any:
    """The Function of an expression of arguments like the arrays."""
    symbols = [gx.symbol(f"x{i}", a.shape, a.dtype.name) for i, a in enumerate(arrays)]
    made = make(*symbols)
    return gx.compile(symbols, list(made) if isinstance(made, tuple) else [made], options=options)


def asked(function: Any) -> set[str]:
    """The routines that the kernels of a Function call."""
    inside = [s for kernel in function.kernels for scope in scopes(kernel) for s in walk(scope)]
    return {s.routine for s in inside if isinstance(s, Library)}


# -- factors ---------------------------------------------------------------------------------------

def bound(a: Any) -> float:
    """Of rounding errors, in eps of the largest element: they grow with the number of rows."""
    return 10.0 * max(a.shape)


def _check_eigh(a: Any, found: Any) -> None:
    values, vectors = found
    check_orthonormal(vectors)
    close((vectors * values[..., None, :]) @ transposed(vectors), a, bound(a))
    close(values, np.linalg.eigvalsh(a), bound(a))
    _check_signs(vectors)


def _check_svd(a: Any, found: Any) -> None:
    left, values, right = found
    check_orthonormal(left)
    check_orthonormal(transposed(right))
    close((left * values[..., None, :]) @ right, a, bound(a))
    close(values, np.linalg.svdvals(a), bound(a))
    _check_signs(left)


def _check_signs(vectors: Any) -> None:
    """Of each column the first component of at least 0.37 of the largest is positive."""
    size = np.abs(vectors)
    first = np.argmax(size >= 0.37 * size.max(-2, keepdims=True), axis=-2)
    assert (np.take_along_axis(vectors, first[..., None, :], -2) > 0).all()


def _check_lu(a: Any, found: Any) -> None:
    packed, pivots, order = found
    m, n = a.shape[-2:]
    k = min(m, n)
    left = np.tril(packed[..., :, :k], -1) + np.eye(m, k, dtype=a.dtype)
    assert np.abs(left).max() <= 1
    close(left @ np.triu(packed[..., :k, :]), np.take_along_axis(a, order[..., None], -2), bound(a))
    rows = np.broadcast_to(np.arange(m), order.shape).copy()
    for matrix, swaps in zip(rows.reshape(-1, m), pivots.reshape(-1, k), strict=True):
        for i, j in enumerate(swaps):
            matrix[[i, j]] = matrix[[j, i]]
    np.testing.assert_array_equal(rows, order)


def _check_cholesky(a: Any, found: Any) -> None:
    (lower,) = found
    np.testing.assert_array_equal(lower, np.tril(lower))
    close(lower @ transposed(lower), a, bound(a))


def _lu(a: Any) -> Any:
    from graphc.ops.lu import lu_op

    return tuple(gx.project(lu_op(a), i) for i in range(3))


def upper_root(a: Any) -> Any:
    """The same triangle, from the other one."""
    return gx.swapaxes(linalg.cholesky(a, upper=True), -1, -2)


# What is computed, of what, with what is demanded of it, by which routine, and from which size on.
FACTORS: dict[str, tuple[Callable[..., Any], Callable[..., Any], bool, str, int]] = {
    "eigh": (linalg.eigh, _check_eigh, True, "eigh", 10),
    "svd": (lambda a: linalg.svd(a, full_matrices=False), _check_svd, False, "svd", 12),
    "lu": (_lu, _check_lu, False, "lu", 32),
    "cholesky": (linalg.cholesky, _check_cholesky, True, "cholesky_lower", 192),
    "upper": (upper_root, _check_cholesky, True, "cholesky_upper", 192),
}
# By how many the shape of a matrix differs from the size from which LAPACK is asked.
AROUND = [(-1, -1), (0, 0), (1, 1), (0, 3), (5, 0), (8, -1)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", list(FACTORS))
def test_factors_around_the_size(name: str, dtype: str) -> None:
    make, check, is_positive, routine, size = FACTORS[name]
    for rows, columns in AROUND:
        shape = (size + rows, size + columns)
        if is_positive and rows != columns:
            continue
        a = (positive if is_positive else random_matrices)(shape).astype(dtype)
        function = compiled(make, a)
        check(a, function(a))
        assert asked(function) == ({routine} if min(shape) >= size else set())


@pytest.fixture
def from_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let LAPACK do matrices of 3 rows and more, alone or many."""
    always = decompositions._From(3, {"float32": 3, "float64": 3})
    monkeypatch.setattr(decompositions, "_LU", always)
    monkeypatch.setattr(decompositions, "_CHOLESKY", always)
    both = {"eigh": (always, always), "svd": (always, always)}
    monkeypatch.setattr(decompositions, "_ROTATED", both)


@pytest.mark.parametrize("name", list(FACTORS))
def test_batches_of_strided_matrices(name: str, from_three: None) -> None:
    make, check, is_positive, routine, _ = FACTORS[name]
    shape = (3, 2, 9, 9)
    a = (positive if is_positive else random_matrices)(shape)
    function = compiled(make, a)
    assert asked(function) == {routine}
    for given in (a, np.asfortranarray(a), a[::-1, ::-1], np.flip(a, -1)[..., ::-1]):
        check(given, function(given))


def test_values_alone() -> None:
    a, b = positive((12, 12)), random_matrices((9, 14))
    function = compiled(lambda x, y: (linalg.eigvalsh(x), linalg.svdvals(y)), a, b)
    assert asked(function) == {"eigvalsh", "svdvals"}
    values, singular = function(a, b)
    close(values, np.linalg.eigvalsh(a))
    close(singular, np.linalg.svdvals(b))


def test_matrices_that_fill_lanes_stay_with_the_kernel() -> None:
    a = positive((50, 12, 12))
    assert asked(compiled(linalg.eigh, a)) == set()
    assert asked(compiled(linalg.eigh, positive((3, 12, 12)))) == {"eigh"}


@pytest.mark.parametrize("name", list(FACTORS))
def test_the_interpreter_runs_what_routines_mean(name: str, from_three: None) -> None:
    """With the memory that is planned for two workers, and with every rule looked at."""
    make, check, is_positive, routine, _ = FACTORS[name]
    for shape in [(2, 7, 7), (7, 5), (5, 7)][: 1 if is_positive else 3]:
        a = (positive if is_positive else random_matrices)(shape)
        function = compiled(make, a)
        results, failures = run_program(function.program, [a], {}, workers=2)
        assert asked(function) == {routine} and not failures
        check(a, results)
        check(a, function(a))
    results, failures = run_program(function.program, [a * np.nan], {}, workers=2)
    assert bool(failures) == (name != "lu")


def kernel_of(
    routine: str = "lu",
    dtypes: tuple[str, ...] = ("float64", "int32"),
    sizes: int = 2,
    role: str = "serial",
    space: str = "worker",
) -> Kernel:
    """A kernel that lets a routine work on scratch, and says 1 where it was asked."""
    out = Buffer("out", "int64", (3,))
    shapes = ((1, 1), (1,))
    scratch = [Buffer(f"s{i}", d, shapes[i], space=space) for i, d in enumerate(dtypes)]
    scope = Scope()
    with scope.loop("parallel", 0, 3, "p") as tasks:
        task, number = tasks.body, Dim.symbol(tasks.variable)
        with task.loop(role, 0, 1) as inner:
            condition = inner.body.eq(inner.body.index(number), 1)
            found = inner.body.library(routine, "float64", scratch, (1,) * sizes, condition)
            inner.body.store(out, (number,), found)
    return Kernel([out, *scratch], scope)


def test_where_a_routine_is_not_asked_its_outcome_says_so() -> None:
    kernel = kernel_of(dtypes=("float64", "int32"))
    verify(kernel)
    out = np.zeros(3, np.int64)
    run_kernel(kernel, [out, np.zeros((1, 1)), np.zeros(1, np.int32)], {})
    assert [value == NOT_ASKED for value in out] == [True, False, True]
    assert "= lu float64 of s0, s1 sizes (1, 1) if v" in kernel.text()


@pytest.mark.parametrize(
    ("wrong", "story"),
    [
        ({"role": "vector"}, "outside of its vector loops"),
        ({"routine": "fft"}, "no routine fft"),
        ({"dtypes": ("float64", "float64")}, "lu works on a, ipiv: float64, int32"),
        ({"dtypes": ("float64",)}, "lu works on"),
        ({"space": "global"}, "which s0 is not"),
        ({"sizes": 1}, "lu takes the sizes m, n"),
    ],
)
def test_rules_of_the_statement(wrong: dict[str, Any], story: str) -> None:
    with pytest.raises(KernelError, match=story):
        verify(kernel_of(**wrong))


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (11, 0), (7, 7)])
def test_no_convergence_without_finite_numbers(value: float, at: tuple[int, int]) -> None:
    """LAPACK, which may not return from them, is not asked."""
    a = np.stack([positive((12, 12))] * 3)
    a[(1, *at)] = value
    for make in (linalg.eigh, linalg.eigvalsh, linalg.svd, linalg.svdvals, linalg.pinv):
        function = compiled(make, a)
        assert asked(function)
        with pytest.raises(np.linalg.LinAlgError, match="did not converge") as error:
            function(a)
        assert "test_lapack.py" in str(error.value)


def test_the_other_triangle_is_not_read() -> None:
    a = positive((12, 12))
    b = np.where(np.tri(12, dtype=bool), a, np.nan)
    _check_eigh(a, compiled(linalg.eigh, a)(b))
    c = np.where(np.tri(200, dtype=bool), positive((200, 200)), np.nan)
    _check_cholesky(np.tril(c) + np.tril(c, -1).T, compiled(linalg.cholesky, c)(c)[:1])


@pytest.mark.parametrize("name", ["cholesky", "upper"])
def test_matrices_without_a_root(name: str, from_three: None) -> None:
    make = FACTORS[name][0]
    good = positive((2, 40, 40))
    for place, value in [((1, 39, 39), -1.0), ((0, 0, 0), 0.0), ((1, 20, 20), np.nan)]:
        bad = good.copy()
        bad[place] = value
        function = compiled(make, bad)
        assert asked(function)
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite") as error:
            function(bad)
        assert "test_lapack.py" in str(error.value)
    bad = good.copy()
    bad[0, 30, 3] = bad[0, 3, 30] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        compiled(make, bad)(bad)


def test_systems() -> None:
    a, b = random_matrices((40, 40)) + 6 * np.eye(40), random_matrices((40, 3))
    function = compiled(linalg.solve, a, b)
    assert asked(function) == {"lu"}
    close(function(a, b)[0], np.linalg.solve(a, b))
    singular = a.copy()
    singular[:, 7] = 0
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        function(singular, b)
    both = compiled(linalg.slogdet, a)
    assert both(singular) == [0, -np.inf]
    close(both(a), np.linalg.slogdet(a))
    a[3, 5] = np.nan
    assert np.isnan(compiled(linalg.det, a)(a)[0])


def test_matrices_at_the_ends_of_the_range() -> None:
    for dtype, ends in (("float64", (1e-300, 1e300)), ("float32", (1e-36, 1e36))):
        for factor in ends:
            a = (positive((12, 12)) * factor).astype(dtype)
            values, vectors = compiled(linalg.eigh, a)(a)
            close((values / values.max()).astype(dtype), (np.linalg.eigvalsh(a) / values.max()))
            check_orthonormal(vectors)
            assert np.isfinite(compiled(linalg.svdvals, a)(a)[0]).all()


def test_equal_values() -> None:
    for a in (np.eye(20), np.zeros((20, 20)), np.diag(np.repeat([1.0, 2, 3, 3], 5))):
        _check_eigh(a, compiled(linalg.eigh, a)(a))
        _check_svd(a, compiled(lambda x: linalg.svd(x, False), a)(a))


# -- sizes that only a call knows ------------------------------------------------------------------


def test_each_call_chooses_by_its_size() -> None:
    """One Function has both kernels; of each call one of them has no tasks."""
    x, y = gx.symbol("x", ("b", "n", "n")), gx.symbol("y", ("m", "k"))
    function = gx.compile(
        [x, y], [*linalg.eigh(x), *linalg.svd(y, False), linalg.det(x)], options=OPTIONS
    )
    assert asked(function) == {"eigh", "svd", "lu"}
    for sizes in [(2, 3, 4, 5), (3, 9, 40, 11), (1, 10, 12, 30), (2, 41, 5, 60), (0, 20, 13, 13)]:
        b, n, m, k = sizes
        a, c = positive((b, n, n)), random_matrices((m, k))
        values, vectors, left, singular, right, det = function(a, c)
        _check_eigh(a, (values, vectors)) if b else None
        _check_svd(c, (left, singular, right))
        close(det, np.linalg.det(a))
    empty = function(np.zeros((2, 0, 0)), np.zeros((0, 3)))
    assert [r.shape for r in empty] == [(2, 0), (2, 0, 0), (0, 0), (0,), (0, 3), (2,)]


# -- derivatives -----------------------------------------------------------------------------------


def test_derivatives_go_through() -> None:
    """They are graphs of the same factors: of another library they differ by rounding."""
    a, b = positive((32, 32)) / 32, random_matrices((32, 2))
    makes: list[Callable[..., Any]] = [
        lambda x, y: gx.sum(linalg.eigh(x)[0] ** 3) + gx.sum(y),
        lambda x, y: gx.sum(linalg.eigh(x)[1][:, 3] * y[:, 0]),
        lambda x, y: gx.sum(gx.sin(linalg.svd(x @ x, False)[0])) + gx.sum(y),
        lambda x, y: gx.sum(linalg.solve(x, y) ** 2),
        lambda x, y: linalg.slogdet(x)[1] * gx.sum(y),
    ]
    x, y = gx.symbol("x", a.shape), gx.symbol("y", b.shape)
    for make in makes:
        slopes = gx.grad(make(x, y), [x, y])
        function = gx.compile([x, y], slopes, options=OPTIONS)
        assert asked(function)
        wanted = gx.compile([x, y], slopes)(a, b)
        for found, want in zip(function(a, b), wanted, strict=True):
            close(found, want, 1e6)


# -- threads ---------------------------------------------------------------------------------------


def test_any_number_of_threads_gives_the_same_bits() -> None:
    a, b = random_matrices((9, 50, 40)), positive((9, 40, 40))

    def make(x: Any, y: Any) -> Any:
        return (*linalg.svd(x, full_matrices=False), *linalg.eigh(y), linalg.det(y))

    one, two = (
        compiled(make, a, b, options=OPTIONS.replace(threads=n, debug=False)) for n in (1, 2)
    )
    for found, want in zip(two(a, b), one(a, b), strict=True):
        np.testing.assert_array_equal(found, want)


def test_calls_from_several_threads() -> None:
    a = positive((5, 40, 40))
    function = compiled(linalg.eigh, a, options=OPTIONS.replace(debug=False))
    want, got = function(a), {}

    def work(i: int) -> None:
        for _ in range(3):
            got[i] = function(a)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 3
    for found in got.values():
        np.testing.assert_array_equal(found[1], want[1])


# -- the cache, and SciPy --------------------------------------------------------------------------

_COMPILE = """
import json, sys
import numpy as np
import graphc as gx
x = gx.symbol("x", (20, 20))
f = gx.compile([x], gx.linalg.svdvals(x), options=gx.Options(library=json.loads(sys.argv[1])))
a = np.add.outer(np.arange(20.0), np.arange(20.0) ** 2)
print(json.dumps([sorted(f.recorder.phases()), f(a).tolist(), "scipy.linalg" in sys.modules]))
"""


def test_a_second_process_calls_the_library_out_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))

    def run(library: str | None) -> Any:
        return json.loads(run_python("-c", _COMPILE, json.dumps(library), folder=tmp_path))

    cold, warm = run("lapack"), run("lapack")
    assert "lower" in cold[0] and "lower" not in warm[0]
    assert cold[1] == warm[1] and cold[2] and warm[2]
    phases, values, imported = run(None)
    assert "lower" in phases and not imported
    close(values, cold[1])


_WITHOUT = """
import sys
sys.modules["scipy"] = None
import graphc as gx
from graphc.errors import MissingExtra
x = gx.symbol("x", (20, 20))
for wanted in (gx.linalg.svdvals(x), x + 1):
    try:
        gx.compile([x], wanted, options=gx.Options(library="lapack"))
    except MissingExtra as error:
        print(error)
"""


def test_without_scipy_the_extra_is_named(tmp_path: Path) -> None:
    said = run_python("-c", _WITHOUT, folder=tmp_path)
    assert said.count('pip install "graphc-compiler[scipy]"') == 2


def test_scipy_is_imported_for_what_calls_it_only(tmp_path: Path) -> None:
    text = """
import sys
import graphc as gx
x = gx.symbol("x", (5, 5))
gx.compile([x], gx.linalg.svdvals(x), options=gx.Options(library="lapack", cache=False))
print("scipy" in sys.modules)
"""
    assert run_python("-c", text, folder=tmp_path).strip() == "False"


def test_another_signature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    routine = routines.ROUTINES["lu"]
    assert lapack._fits(lapack._name_of(home.__pyx_capi__["dgetrf"]), routine, "float64")
    assert not lapack._fits(lapack._name_of(home.__pyx_capi__["sgetrf"]), routine, "float64")
    others = {"dgetrf": home.__pyx_capi__["dpotrf"]}
    monkeypatch.setattr(lapack, "_capsules", lambda: others)
    for symbol, story in (("dgetrf", "as void"), ("sgetrf", "as nothing")):
        with pytest.raises(CompileError, match=story):
            lapack._address.__wrapped__(f"{routines.PREFIX}{symbol}")


@pytest.mark.parametrize("name", list(routines.ROUTINES))
def test_signatures_are_scipys(name: str) -> None:
    routine = routines.ROUTINES[name]
    for dtype in routines.LETTERS:
        assert lapack.addresses([routine.symbol(dtype)])[routine.symbol(dtype)] != 0


def test_other_targets_run_the_kernels() -> None:
    x = gx.symbol("x", (9, 9))
    values = linalg.eigvalsh(x)
    for target in ("c", "cuda"):
        plain = gx.emit([x], [values], target=target)
        text = gx.emit([x], [values], target=target, options=gx.Options(library="lapack"))
        assert str(getattr(text, "text", text)) == str(getattr(plain, "text", plain))
    a = positive((9, 9))
    function = gx.compile(
        [x], values, target="interpret", options=gx.Options(library="lapack", threads=1)
    )
    assert asked(function) == set()
    close(function(a), np.linalg.eigvalsh(a))


def test_the_report_says_who_works() -> None:
    a = positive((20, 20))
    assert "left to lapack" in str(compiled(linalg.eigh, a).report())
