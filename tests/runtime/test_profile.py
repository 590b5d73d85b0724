"""Is a profile one of the kernels as calls run them?"""

from __future__ import annotations

import numpy as np

import graphc as gx
from graphc.codegen.loops import LINE_BYTES
from graphc.runtime import profile


def test_every_launch_is_timed_in_each_repetition():
    x = gx.matrix("x", ("n", 40))
    function = gx.compile([x], [gx.sum(x @ x.T, axis=0), gx.exp(x)])
    timings = profile.profile(function._impl, [np.ones((30, 40))], repeat=3)
    assert [t.launch for t in timings] == list(function._impl.program.launches())
    assert all(len(t.seconds) == 3 and 0 < t.best < 1 for t in timings)


def test_results_begin_where_those_of_calls_do():
    x = gx.vector("x", "n")
    function = gx.compile([x], [gx.exp(x), gx.cumsum(x)])
    arguments = np.linspace(0, 1, 50_000)
    replay = profile._Replay(function._impl, [arguments])
    outputs = [replay.memory[id(s)] for s in function._impl.program.main.outputs]
    assert all(output.ctypes.data % LINE_BYTES == 0 for output in outputs)
    replay.run(function._impl.program.main.body, {})
    for output, expected in zip(outputs, function(arguments), strict=True):
        assert np.array_equal(output, expected)
