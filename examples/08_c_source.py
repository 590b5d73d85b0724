"""08. C source.

The kernels that run on this CPU can be printed as C99, too: one `.c` and one `.h`, which need no
Python, no library of mathematics and no memory of their own. Sizes are arguments, so one file
serves all of them. Here it is compiled by the C compiler of this machine, if there is one, and
called from Python; it agrees with the Function that `gx.compile` makes.

Run me:  python examples/08_c_source.py
"""

import ctypes
import shutil
import subprocess
import tempfile

import numpy as np

import graphc as gx

# A layer and the slope of its loss, for any number of rows.
x, w = gx.matrix("x", ("rows", 4)), gx.vector("w", 4)
loss = gx.mean(gx.softplus(x @ w))
program = gx.emit([x, w], [loss, gx.grad(loss, w)], target="c", name="layer")

# The header documents buffers and extents; the source has a function for each kernel, with the
# lines that it comes from.
print(program.header)
assert "08_c_source.py:" in program.source

rows = np.random.default_rng(0).normal(size=(1000, 4))
weights = np.array([0.5, -1.0, 2.0, 0.25])
f = gx.compile([x, w], [loss, gx.grad(loss, w)])

compiler = shutil.which("gcc")
if compiler is None:
    print("no gcc here: compile layer.c, which program.save(folder) writes, yourself")
else:
    flags = ["-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno"]
    with tempfile.TemporaryDirectory() as folder:
        body, _ = program.save(folder)
        shared = f"{folder}/layer.so"
        subprocess.run([compiler, *flags, "-shared", "-fPIC", body, "-o", shared], check=True)
        library = ctypes.CDLL(shared)

    # The typed function takes sizes, inputs, outputs, a workspace and the record of a failure.
    def address(array):
        return array.ctypes.data_as(ctypes.c_void_p)

    status = (ctypes.c_int64 * 4)()
    extents = np.zeros(program.slots, np.int64)
    extents[0] = len(rows)
    assert library.layer_extents(address(extents), status) == 0
    workspace = np.empty(library.layer_workspace(address(extents)), np.uint8)
    value, slope = np.empty(()), np.empty(4)
    arrays = [address(array) for array in (rows, weights, value, slope, workspace)]
    library.layer_call.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 6]
    assert library.layer_call(len(rows), *arrays, status) == 0

    wanted = f(rows, weights)
    assert np.allclose(value, wanted[0], rtol=1e-14) and np.allclose(slope, wanted[1], rtol=1e-12)
    print(f"C says {value}, and the compiled Function {wanted[0]}")
