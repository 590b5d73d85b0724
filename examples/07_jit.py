"""07. A plain function.

`gx.jit` takes a function written with NumPy's names and compiles it for each signature it is called
with: dtypes, ranks, which extents are 1. Sizes are not part of it, so one trace serves them all.

Run me:  python examples/07_jit.py
"""

import numpy as np

import graphc as gx


@gx.jit
def step(params, x, y, rate):
    """One step of logistic regression: parameters in a dict, a rate that is a Python number."""
    margin = y * (x @ params["w"] + params["b"])
    loss = np.mean(np.log(1 + np.exp(-margin)))
    slope = gx.grad(loss, params)
    return loss, {name: params[name] - rate * slope[name] for name in params}


rng = np.random.default_rng(0)
params = {"w": np.zeros(3), "b": np.zeros(())}
for n in (50, 80, 80, 120):
    x = rng.normal(size=(n, 3))
    y = np.sign(x @ np.array([1.0, -2.0, 0.5]) + 0.3)
    for _ in range(25):
        loss, params = step(params, x, y, 0.5)
    print(f"{n:>4} rows: loss {loss:.3f}")

# Four sizes, one trace. `why` says what each trace is for, and why it was made.
print(step.why())
assert len(step.traces) == 1


# Python code may ask about extents: the sizes of the call answer, and the answer becomes a guard of
# the trace. Where a number itself is needed, that dimension is pinned, and only that one.
@gx.jit
def smooth(x, kernel):
    if kernel.shape[0] > x.shape[0]:
        return x
    taps = len(kernel)
    return sum(kernel[i] * x[i : x.shape[0] - taps + 1 + i] for i in range(taps))


signal = rng.normal(size=1000)
for taps in (3, 5):
    for size in (1000, 400):
        window = np.ones(taps) / taps
        expected = np.convolve(signal[:size], window, "valid")
        assert np.allclose(smooth(signal[:size], window), expected)
print(smooth.why())

# What only a call knows cannot steer Python; the message says what can be written instead.
try:
    gx.jit(lambda x: x if x.sum() > 0 else -x)(signal)
except gx.GraphError as error:
    print("refused:", error)
