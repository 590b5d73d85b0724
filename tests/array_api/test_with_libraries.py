"""Do libraries that are written to the standard work on graphc's arrays?

SciPy reads `SCIPY_ARRAY_API` when it is imported, so each library is asked in a process of its own;
the answer is the name of the result's type, and how far it is from that of NumPy's arrays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAD = """
import json
import numpy as np
import graphc.array_api as xp
x = np.random.default_rng(1).uniform(0.1, 1.0, (20, 3))
a = xp.asarray(x, copy=True)
def compare(function):
    result, expected = function(a), np.asarray(function(x))
    got = np.asarray(result)
    far = np.abs(got - expected).max() if got.shape == expected.shape else np.inf
    return type(result).__name__, float(far)
"""
SCIPY = """
from scipy import cluster, integrate, optimize, special, stats
functions = [
    lambda v: special.logsumexp(v, axis=0), lambda v: special.softmax(v, axis=0),
    special.expit, special.entr, lambda v: special.rel_entr(v, v),
    lambda v: stats.skew(v, axis=0), lambda v: stats.kurtosis(v, axis=0), stats.zscore, stats.gmean,
    lambda v: stats.moment(v, 3), stats.entropy, lambda v: stats.ttest_1samp(v, 0.5).statistic,
    lambda v: stats.pearsonr(v[:, 0], v[:, 1]).statistic, optimize.rosen,
    cluster.vq.whiten, lambda v: integrate.cumulative_trapezoid(v, axis=0),
]
print(json.dumps([compare(function) for function in functions]))
"""
LEARN = """
import sklearn
from sklearn.metrics.pairwise import cosine_similarity, euclidean_distances
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
sklearn.set_config(array_api_dispatch=True)
functions = [
    *[lambda v, C=C: C().fit_transform(v)
      for C in (MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler)],
    euclidean_distances, cosine_similarity,
]
print(json.dumps([compare(function) for function in functions]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("library", "code"), [("scipy", SCIPY), ("sklearn", LEARN)])
def test_libraries_of_the_standard(library: str, code: str) -> None:
    pytest.importorskip(library)
    pytest.importorskip("array_api_compat")
    environment = {**os.environ, "SCIPY_ARRAY_API": "1"}
    command = [sys.executable, "-c", HEAD + code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    answers = json.loads(ended.stdout.splitlines()[-1])
    assert len(answers) >= 6
    for kind, far in answers:
        assert kind == "Array" and far < 1e-12
