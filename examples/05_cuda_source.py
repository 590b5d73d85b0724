"""05. CUDA source.

The kernels that run on this CPU can also be printed as CUDA C++. `gx.emit` needs no GPU, no driver
and no toolkit: it gives the source, and the launch plan, which says what kernel runs when, on how
many blocks, with which buffers. This project compiles that text with NVRTC for sm_80, sm_90 and
sm_100 and executes it with an emulator on the CPU; it has not been run on a GPU.

Run me:  python examples/05_cuda_source.py
"""

import numpy as np

import graphc as gx

# Softmax of each row: a maximum, an exponential, a sum, a division.
x = gx.matrix("x", ("rows", "columns"), "float32")
softmax = gx.exp(x - gx.max(x, axis=1, keepdims=True))
softmax = softmax / gx.sum(softmax, axis=1, keepdims=True)

source = gx.emit([x], softmax, target="cuda", name="softmax")

# All of it became one kernel: a block takes a row, and the row's maximum and sum never leave the
# block. Above the kernel stand the nodes that it computes and the lines that they were built at.
print(source.text)
print([kernel.name for kernel in source.kernels])
assert len(source.kernels) == 1

# The same source may be compiled and launched by any program that speaks CUDA: names are plain C,
# sizes are arguments.
assert 'extern "C" __global__' in source.text

# It is what runs here, too: the CPU's code is printed from the same kernel.
f = gx.compile([x], softmax)
rows = np.random.default_rng(0).normal(size=(4, 100)).astype("float32")
assert len(f.kernels) == 1
assert np.allclose(f(rows).sum(axis=1), 1, atol=1e-6)
