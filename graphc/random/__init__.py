"""Random numbers with explicit keys: a draw is a function of a key, so it repeats, and can be
compiled, differentiated, and split among threads.

A key is an array of two uint32: `key(seed)` makes one, `split` makes several of one. The same key
gives the same numbers, on every backend and for any number of threads, so a program uses each key
once and splits it for more.

>>> import graphc as gx
>>> key = gx.random.key(0)
>>> noise, mask = gx.random.split(key)
>>> gx.random.normal(noise, (3,)).shape
(3,)

Element i (in C order) depends on the key and on i alone: a longer array begins with the shorter
one. Draws are computed where they are used: dropout is part of the kernel that reads it.
"""

from graphc.random.continuous import (
    cauchy,
    exponential,
    gumbel,
    laplace,
    logistic,
    lognormal,
    normal,
    truncated_normal,
    uniform,
)
from graphc.random.counts import binomial, geometric, negative_binomial, poisson
from graphc.random.discrete import bernoulli, rademacher, randint
from graphc.random.gammas import beta, chisquare, dirichlet, gamma, student_t
from graphc.random.keys import bits, fold_in, key, split
from graphc.random.powers import f, pareto, power, rayleigh, triangular, wald, weibull
from graphc.random.selection import categorical, choice, permutation, shuffle
from graphc.random.vectors import multinomial, multivariate_normal

__all__ = [
    "bernoulli",
    "beta",
    "binomial",
    "bits",
    "categorical",
    "cauchy",
    "chisquare",
    "choice",
    "dirichlet",
    "exponential",
    "f",
    "fold_in",
    "gamma",
    "geometric",
    "gumbel",
    "key",
    "laplace",
    "logistic",
    "lognormal",
    "multinomial",
    "multivariate_normal",
    "negative_binomial",
    "normal",
    "pareto",
    "permutation",
    "poisson",
    "power",
    "rademacher",
    "randint",
    "rayleigh",
    "shuffle",
    "split",
    "student_t",
    "triangular",
    "truncated_normal",
    "uniform",
    "wald",
    "weibull",
]
