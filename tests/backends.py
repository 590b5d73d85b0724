"""Where can a graph run, and when do two results count as equal?

`run` takes a graph to one of the backends: the kernel interpreter, native code on one thread and on two, the CUDA C++ text on an
emulator. The truth is `graphc.evaluate`. Kernels of test size would never be split over threads, so the constants that decide
on splitting can be made small for the time of a test (`split_finely`).

The rule of comparison: exact for integers, bool, movement and IEEE arithmetic; a stated number of ULP for mathematical
functions; `c * eps * sum |terms|` for sums. In a graph of many nodes these errors are carried on and magnified. `spread` finds out how far, by
evaluating the graph several times with the result of every inexact op disturbed by what the rule allows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import graphc as gx
import numpy as np
from graphc import evaluate as _evaluate_name  # noqa: F401  (loads graphc.evaluate)
from graphc.graph import substitute_in
from graphc.node import Node, topological
