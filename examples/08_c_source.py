"""08. C source.

The kernels that run on this CPU can be printed as C99, too: one `.c` and one `.h`, which need no
Python, no library of mathematics and no memory of their own. Sizes are arguments, so one file
serves all of them. Here a step of training becomes C, a small program in C calls it a hundred
times, updating the weights in place, and ends where the Function that `gx.compile` makes does.

Run me:  python examples/08_c_source.py
"""

import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

import graphc as gx

# A layer, its loss for any number of rows, and a step of gradient descent.
x, y = gx.matrix("x", ("rows", 4)), gx.vector("y", "rows")
w, b = gx.vector("w", 4), gx.scalar("b")
loss = gx.mean((gx.tanh(x @ w + b) - y) ** 2)
slope_w, slope_b = gx.grad(loss, (w, b))
inputs, outputs = [w, b, x, y], [w - 0.5 * slope_w, b - 0.5 * slope_b, loss]

# Donated inputs may be the arrays of outputs; x may have strides (True would be for all others).
program = gx.emit(inputs, outputs, target="c", name="step", donate=[w, b], strided=[x])

# The header documents arrays and extents; the source has a function for each kernel, with the
# lines that it comes from.
print(program.header)
assert "08_c_source.py:" in program.source

MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include "step.h"

int main(void)
{
    enum { ROWS = 1000 };
    static double columns[4][ROWS], y[ROWS];       /* x lies in columns: hence its strides */
    const int64_t x_strides[2] = {1, ROWS};
    double w[4] = {0}, b = 0, loss = 0;
    graphc_status status;

    for (int i = 0; i < ROWS; ++i) {
        for (int j = 0; j < 4; ++j) columns[j][i] = (i * (j + 3) % 17) / 17.0 - 0.5;
        y[i] = columns[0][i] - 0.5 * columns[1][i] > 0 ? 1 : -1;
    }
    int64_t extents[STEP_EXTENTS] = {ROWS};
    if (step_extents(extents, &status) != GRAPHC_DONE) return 1;
    void *workspace = malloc((size_t)step_workspace(extents));
    for (int i = 0; i < 100; ++i) {
        if (step_call(ROWS, w, &b, columns[0], x_strides, y, w, &b, &loss, workspace, &status)) {
            fputs(step_message(&status), stderr);
            return 1;
        }
    }
    printf("%.17g %.17g %.17g %.17g %.17g %.17g\\n", w[0], w[1], w[2], w[3], b, loss);
    free(workspace);
    return 0;
}
"""

# The same in Python.
i, j = np.arange(1000)[:, None], np.arange(4)
rows = (i * (j + 3) % 17) / 17.0 - 0.5
labels = np.where(rows[:, 0] - 0.5 * rows[:, 1] > 0, 1.0, -1.0)
step = gx.compile(inputs, outputs)
weights, bias = np.zeros(4), np.zeros(())
for _ in range(100):
    weights, bias, value = step(weights, bias, rows, labels)

compiler = shutil.which("cc") or shutil.which("gcc")
if compiler is None:
    print("no C compiler here: compile step.c, which program.save(folder) writes, yourself")
else:
    flags = ["-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno"]
    with tempfile.TemporaryDirectory() as folder:
        body, _ = program.save(folder)
        main, run = pathlib.Path(folder) / "main.c", pathlib.Path(folder) / "train"
        main.write_text(MAIN)
        subprocess.run([compiler, *flags, main, body, "-o", run], check=True)
        printed = subprocess.run([run], check=True, capture_output=True, text=True).stdout

    got = np.array(printed.split(), dtype=float)
    assert np.allclose(got, [*weights, bias, value], rtol=1e-10)
    print(f"C ends at the loss {got[-1]:.12f}, the compiled Function at {value:.12f}")
