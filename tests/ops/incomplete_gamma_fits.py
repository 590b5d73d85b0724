"""Where do the numbers of `graphc.ops.incomplete_gamma_tables` come from?

Interpolations at Chebyshev nodes in 300-bit arithmetic, as those of `vecmath_fits`, whose functions
they use. `python tests/ops/incomplete_gamma_fits.py > graphc/ops/incomplete_gamma_tables.py` writes
the file; `test_incomplete_gamma.py` derives the numbers again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mpmath

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen"))
from vecmath_fits import PRECISION, interpolated, real, rounded, rows

# Degrees of the polynomials that go with a**0, a**-1, ... for a of at least 20.
DEGREES = (22, 20, 19, 17, 16, 14, 12, 11, 9, 7, 5, 3)
TERMS = 110


def _quotient(above: list[Any], below: list[Any]) -> list[Any]:
    """Of two power series."""
    found: list[Any] = []
    for n in range(min(len(above), len(below))):
        taken = mpmath.fsum(found[j] * below[n - j] for j in range(n))
        found.append((above[n] - taken) / below[0])
    return found


def _ratio_series() -> list[Any]:
    """mu/eta as a power series in eta, where eta**2/2 = mu - log(1 + mu): mu mu' = eta (1 + mu)."""
    mu = [mpmath.mpf(1)]  # of mu/eta
    for n in range(1, TERMS):
        # coefficient n of m (m + eta m') = 1 + eta m
        known = mpmath.fsum(mu[j] * mu[n - j] * (n - j + 1) for j in range(1, n))
        mu.append((mu[n - 1] - known) / (n + 2))
    return mu


def uniform_series(count: int) -> list[list[Any]]:
    """c_0, c_1, ... of the uniform expansion as power series in eta (Temme 1979; DLMF 8.12.9 to
    8.12.11): c_k = c_(k-1)'/eta + g_k/mu, where g_k cancels the pole.
    """
    inverse = _quotient([mpmath.mpf(1)] + [mpmath.mpf(0)] * (TERMS - 1), _ratio_series())
    found = [inverse[1:]]
    for _ in range(count - 1):
        slope = [(n + 1) * c for n, c in enumerate(found[-1][1:])]
        pole = -slope[0]
        found.append([s + pole * i for s, i in zip(slope[1:], inverse[1:], strict=False)])
    return found


def tables() -> dict[str, Any]:
    def atanh_rest(z: Any) -> Any:
        r = mpmath.sqrt(z)
        return (mpmath.atanh(r) / r - 1) / z

    def of_power_series(series: list[Any], degree: int) -> tuple[float, ...]:
        end = real("1.02")
        found = interpolated(lambda e: mpmath.polyval(series[::-1], e), -end, end, degree)
        return rounded(found, "float64")

    return {
        "ATANH_REST": rounded(
            interpolated(atanh_rest, real("1e-30"), real("0.3"), 16), "float64"
        ),
        "LGAMMA_SLOPE": rounded(
            interpolated(
                lambda a: mpmath.loggamma(1 + a) / a, real("1e-30"), real("1.2501"), 25
            ),
            "float64",
        ),
        "UNIFORM": tuple(
            of_power_series(series, degree)
            for series, degree in zip(uniform_series(len(DEGREES)), DEGREES, strict=True)
        ),
    }


HEAD = '''"""Which numbers do the incomplete gamma functions use?

Written by `python tests/ops/incomplete_gamma_fits.py`, which says how each is found. Polynomials
have their constant first.
"""

# fmt: off
'''
COMMENTS = {
    "ATANH_REST": "(atanh(r)/r - 1)/z in z = r**2 <= 0.3",
    "LGAMMA_SLOPE": "lgamma(1 + a)/a on 0 <= a <= 1.25",
    "UNIFORM": "c_k(eta) of the uniform expansion on |eta| <= 1.02, one row for each k (DLMF 8.12)",
}


def _lines(values: tuple[float, ...], indent: str) -> list[str]:
    return [indent + " ".join(f"{value!r}," for value in row) for row in rows(values)]


def text() -> str:
    out = [HEAD.rstrip("\n")]
    for name, value in tables().items():
        out.append(f"# {COMMENTS[name]}")
        if name == "UNIFORM":
            out.append(f"{name}: tuple[tuple[float, ...], ...] = (")
            for row in value:
                out += ["    (", *_lines(row, "        "), "    ),"]
        else:
            out.append(f"{name}: tuple[float, ...] = (")
            out += _lines(value, "    ")
        out.append(")")
    return "\n".join(out)


if __name__ == "__main__":
    with mpmath.workprec(PRECISION):
        print(text())
