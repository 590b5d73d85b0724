"""graphc compiles symbolic tensor expressions to native kernels.

Expressions are nodes of an interned graph, written with NumPy's names. `gx.grad` differentiates a
graph into a graph; `gx.compile` rewrites, fuses and lowers it to machine code; `gx.emit` prints
CUDA C++. Names are loaded at first use: importing graphc loads NumPy and little else.

>>> import graphc as gx
>>> x = gx.vector("x", 3)
>>> cost = gx.sum(gx.tanh(x) ** 2)
>>> gx.grad(cost, x).shape
(3,)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphc import _checkout
from graphc._version import __version__

_checkout.install()

if TYPE_CHECKING:
    from graphc.autodiff import (
        grad,
        hessian,
        hvp,
        jacobian,
        jvp,
        taylor,
        value_and_grad,
        vjp,
    )
    from graphc.autodiff.check import check_grad
    from graphc.autodiff.sparse_matrix import SparseMatrix
    from graphc.batching import vmap
    from graphc.dims import dim
    from graphc.display import show
    from graphc.emission import emit
    from graphc.errors import CompileError, GraphError
    from graphc.evaluator import evaluate
    from graphc.function import compile
    from graphc.graph import Graph
    from graphc.graphfile import load, save
    from graphc.implicit import fixed_point, minimize, root
    from graphc.interop import from_sympy, to_networkx, to_sympy
    from graphc.jitted import jit
    from graphc.node import Node
    from graphc.op_check import check_op
    from graphc.ops.activations import (
        celu,
        elu,
        gelu,
        hard_sigmoid,
        hard_swish,
        hard_tanh,
        leaky_relu,
        log_sigmoid,
        relu6,
        selu,
        softsign,
    )
    from graphc.ops.arithmetic import (
        absolute,
        add,
        divide,
        maximum,
        minimum,
        modf,
        multiply,
        negative,
        power,
        relu,
        sign,
        sqrt,
        square,
        strong_multiply,
        subtract,
    )
    from graphc.ops.arrangement import fliplr, flipud, repeat, resize, roll, rot90, tile
    from graphc.ops.bessel import i0, i0e, i1, i1e, j0, j1, y0, y1
    from graphc.ops.beta import beta, betaln
    from graphc.ops.bitwise import (
        bitwise_and,
        bitwise_count,
        bitwise_or,
        bitwise_xor,
        invert,
        left_shift,
        right_shift,
    )
    from graphc.ops.branch import cond, switch
    from graphc.ops.checkpoints import checkpoint
    from graphc.ops.compare import (
        equal,
        greater,
        greater_equal,
        isnan,
        less,
        less_equal,
        logical_and,
        logical_not,
        logical_or,
        logical_xor,
        not_equal,
    )
    from graphc.ops.composed import (
        allclose,
        array_equal,
        clip,
        conjugate,
        deg2rad,
        fabs,
        float_power,
        fmax,
        fmin,
        heaviside,
        imag,
        isclose,
        isfinite,
        isinf,
        isneginf,
        isposinf,
        logaddexp,
        nan_to_num,
        piecewise,
        positive,
        rad2deg,
        real,
        select,
    )
    from graphc.ops.contract import dot, matmul, outer, tensordot
    from graphc.ops.control import call, scan
    from graphc.ops.convolution import conv, conv1d, conv2d, conv3d, conv_transpose
    from graphc.ops.counting import bincount, histogram, histogram_bin_edges, isin, unique
    from graphc.ops.creation import (
        arange,
        empty,
        empty_like,
        fromfunction,
        full,
        full_like,
        geomspace,
        indices,
        iota,
        ix_,
        linspace,
        logspace,
        meshgrid,
        ones,
        ones_like,
        vander,
        zeros,
        zeros_like,
    )
    from graphc.ops.cumulative import (
        cummax,
        cummin,
        cumprod,
        cumsum,
        cumulate,
        logcumsumexp,
        recurrence,
    )
    from graphc.ops.curves import interp, unwrap
    from graphc.ops.custom import custom_derivative
    from graphc.ops.diagonal import (
        diag,
        diag_indices,
        diagflat,
        diagonal,
        eye,
        fill_diagonal,
        identity,
        trace,
        tri,
        tril,
        tril_indices,
        tril_indices_from,
        triu,
        triu_indices,
        triu_indices_from,
    )
    from graphc.ops.differences import diff, ediff1d, gradient, trapezoid
    from graphc.ops.division import floor_divide, fmod, gcd, lcm, reciprocal, remainder
    from graphc.ops.editing import delete, insert
    from graphc.ops.einsum import einsum, einsum_path
    from graphc.ops.filters import convolve, correlate
    from graphc.ops.flat_positions import ravel_multi_index, unravel_index
    from graphc.ops.floating import copysign, frexp, hypot, ldexp, nextafter, signbit, spacing
    from graphc.ops.incomplete_beta import betainc, betaincc
    from graphc.ops.incomplete_gamma import gammainc, gammaincc
    from graphc.ops.indexing import (
        argwhere,
        choose,
        compress,
        dynamic_slice,
        dynamic_update_slice,
        extract,
        flatnonzero,
        nonzero,
        one_hot,
        put_along_axis,
        take,
        take_along_axis,
    )
    from graphc.ops.iteration import (
        apply_along_axis,
        associative_scan,
        fori_loop,
        while_loop,
    )
    from graphc.ops.iteration import (
        map_ as map,
    )
    from graphc.ops.joining import (
        append,
        array_split,
        block,
        column_stack,
        concatenate,
        dsplit,
        dstack,
        hsplit,
        hstack,
        split,
        stack,
        unstack,
        vsplit,
        vstack,
    )
    from graphc.ops.joining import (
        concatenate as concat,
    )
    from graphc.ops.movement import (
        atleast_1d,
        atleast_2d,
        atleast_3d,
        broadcast_arrays,
        broadcast_to,
        expand_dims,
        flip,
        matrix_transpose,
        moveaxis,
        ravel,
        reshape,
        rollaxis,
        squeeze,
        swapaxes,
        transpose,
    )
    from graphc.ops.movement import (
        broadcast_shapes_ as broadcast_shapes,
    )
    from graphc.ops.movement import (
        transpose as permute_dims,
    )
    from graphc.ops.normal import ndtr, normal_density
    from graphc.ops.norms import norm
    from graphc.ops.operands import cast, constant, matrix, scalar, symbol, vector
    from graphc.ops.padding import pad
    from graphc.ops.polynomials import poly, polyadd, polyder, polyint, polymul, polysub, polyval
    from graphc.ops.pooling import (
        adaptive_avg_pool,
        avg_pool,
        global_avg_pool,
        global_max_pool,
        max_pool,
        sum_pool,
        upsample,
    )
    from graphc.ops.products import (
        cross,
        inner,
        kron,
        matrix_power,
        matvec,
        multi_dot,
        vdot,
        vecdot,
        vecmat,
    )
    from graphc.ops.quantiles import (
        median,
        nanmedian,
        nanpercentile,
        nanquantile,
        percentile,
        quantile,
    )
    from graphc.ops.reduce import (
        argmax,
        argmin,
        count_nonzero,
        log_softmax,
        logsumexp,
        mean,
        ptp,
        softmax,
    )
    from graphc.ops.rounding import ceil, floor, rint, trunc
    from graphc.ops.selection import topk
    from graphc.ops.sets import intersect1d, setdiff1d, setxor1d, union1d
    from graphc.ops.sorting import (
        argpartition,
        argsort,
        digitize,
        lexsort,
        partition,
        searchsorted,
        sort,
    )
    from graphc.ops.special import check, project, stop_gradient, where
    from graphc.ops.special_functions import (
        digamma,
        erf,
        erfc,
        erfcinv,
        erfinv,
        gamma,
        gammaln,
        polygamma,
    )
    from graphc.ops.statistics import (
        average,
        corrcoef,
        cov,
        nanargmax,
        nanargmin,
        nancumprod,
        nancumsum,
        nanmax,
        nanmean,
        nanmin,
        nanprod,
        nanstd,
        nansum,
        nanvar,
        std,
        var,
    )
    from graphc.ops.tapers import bartlett, blackman, hamming, hanning, kaiser
    from graphc.ops.transcend import (
        arccosh,
        arcsinh,
        arctanh,
        cbrt,
        cosh,
        exp,
        exp2,
        expm1,
        log,
        log1p,
        log2,
        log10,
        logaddexp2,
        logit,
        mish,
        sigmoid,
        silu,
        sinh,
        softplus,
        tanh,
        xlog1py,
        xlogy,
    )
    from graphc.ops.trigonometry import arccos, arcsin, arctan, arctan2, cos, sin, sinc, tan
    from graphc.ops.update import at
    from graphc.ops.windows import sliding_window_view
    from graphc.options import Options
    from graphc.origin import origins
    from graphc.rewrite.explain import explain
    from graphc.runtime.cuda.stream import cuda_stream
    from graphc.tree import register_container
    from graphc.types import TensorType as Type

# Where the names that are not functions of the surface live.
_HOMES = {
    **dict.fromkeys(
        ("grad", "hessian", "hvp", "jacobian", "jvp", "taylor", "value_and_grad", "vjp"),
        "graphc.autodiff",
    ),
    **dict.fromkeys(("constant", "matrix", "scalar", "symbol", "vector"), "graphc.ops.operands"),
    **dict.fromkeys(("CompileError", "GraphError"), "graphc.errors"),
    "explain": "graphc.rewrite",
    **dict.fromkeys(("fixed_point", "minimize", "root"), "graphc.implicit"),
    **dict.fromkeys(("load", "save"), "graphc.graphfile"),
    "Graph": "graphc.graph",
    "Node": "graphc.node",
    "Options": "graphc.options",
    "SparseMatrix": "graphc.autodiff.sparse_matrix",
    "Type": "graphc.types",
    "check_grad": "graphc.autodiff.check",
    "check_op": "graphc.op_check",
    "compile": "graphc.function",
    "cuda_stream": "graphc.runtime.cuda.stream",
    "dim": "graphc.dims",
    "emit": "graphc.emission",
    "evaluate": "graphc.evaluator",
    "jit": "graphc.jitted",
    "origins": "graphc.origin",
    "project": "graphc.ops.special",
    "register_container": "graphc.tree",
    "show": "graphc.display",
    "from_sympy": "graphc.interop",
    "to_networkx": "graphc.interop",
    "to_sympy": "graphc.interop",
    "vmap": "graphc.batching",
}
_RENAMED = {"Type": "TensorType"}
_SUBMODULES = frozenset(
    (
        *("array_api", "autodiff", "codegen", "display", "linalg", "nn", "optim", "random"),
        *("rewrite", "runtime"),
    )
)
# Asked for by `from graphc import ...` inside the package: the import system finds them itself.
_INNER = frozenset(("dtypes", "origin", "ops", "tracing"))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), _RENAMED.get(name, name))
    elif name in _SUBMODULES:
        value = importlib.import_module(f"graphc.{name}")
    elif name.startswith("_") or name in _INNER:
        raise AttributeError(f"module 'graphc' has no attribute {name!r}")
    else:
        surface = importlib.import_module("graphc.tensor").SURFACE
        if name not in surface:
            raise AttributeError(f"module 'graphc' has no attribute {name!r}")
        value = surface[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    surface = importlib.import_module("graphc.tensor").SURFACE
    return sorted({*globals(), *_HOMES, *_SUBMODULES, *surface})


# Literal, because type checkers read it: what it does not name is not re-exported to them.
__all__ = [
    "CompileError",
    "Graph",
    "GraphError",
    "Node",
    "Options",
    "SparseMatrix",
    "Type",
    "__version__",
    "absolute",
    "adaptive_avg_pool",
    "add",
    "allclose",
    "append",
    "apply_along_axis",
    "arange",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argpartition",
    "argsort",
    "argwhere",
    "array_equal",
    "array_split",
    "associative_scan",
    "at",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "average",
    "avg_pool",
    "bartlett",
    "beta",
    "betainc",
    "betaincc",
    "betaln",
    "bincount",
    "bitwise_and",
    "bitwise_count",
    "bitwise_or",
    "bitwise_xor",
    "blackman",
    "block",
    "broadcast_arrays",
    "broadcast_shapes",
    "broadcast_to",
    "call",
    "cast",
    "cbrt",
    "ceil",
    "celu",
    "check",
    "check_grad",
    "check_op",
    "checkpoint",
    "choose",
    "clip",
    "column_stack",
    "compile",
    "compress",
    "concat",
    "concatenate",
    "cond",
    "conjugate",
    "constant",
    "conv",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose",
    "convolve",
    "copysign",
    "corrcoef",
    "correlate",
    "cos",
    "cosh",
    "count_nonzero",
    "cov",
    "cross",
    "cuda_stream",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "cumulate",
    "custom_derivative",
    "deg2rad",
    "delete",
    "diag",
    "diag_indices",
    "diagflat",
    "diagonal",
    "diff",
    "digamma",
    "digitize",
    "dim",
    "divide",
    "dot",
    "dsplit",
    "dstack",
    "dynamic_slice",
    "dynamic_update_slice",
    "ediff1d",
    "einsum",
    "einsum_path",
    "elu",
    "emit",
    "empty",
    "empty_like",
    "equal",
    "erf",
    "erfc",
    "erfcinv",
    "erfinv",
    "evaluate",
    "exp",
    "exp2",
    "expand_dims",
    "explain",
    "expm1",
    "extract",
    "eye",
    "fabs",
    "fill_diagonal",
    "fixed_point",
    "flatnonzero",
    "flip",
    "fliplr",
    "flipud",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "fori_loop",
    "frexp",
    "from_sympy",
    "fromfunction",
    "full",
    "full_like",
    "gamma",
    "gammainc",
    "gammaincc",
    "gammaln",
    "gcd",
    "gelu",
    "geomspace",
    "global_avg_pool",
    "global_max_pool",
    "grad",
    "gradient",
    "greater",
    "greater_equal",
    "hamming",
    "hanning",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "heaviside",
    "hessian",
    "histogram",
    "histogram_bin_edges",
    "hsplit",
    "hstack",
    "hvp",
    "hypot",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "identity",
    "imag",
    "indices",
    "inner",
    "insert",
    "interp",
    "intersect1d",
    "invert",
    "iota",
    "isclose",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "ix_",
    "j0",
    "j1",
    "jacobian",
    "jit",
    "jvp",
    "kaiser",
    "kron",
    "lcm",
    "ldexp",
    "leaky_relu",
    "left_shift",
    "less",
    "less_equal",
    "lexsort",
    "linspace",
    "load",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_sigmoid",
    "log_softmax",
    "logaddexp",
    "logaddexp2",
    "logcumsumexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "logspace",
    "logsumexp",
    "map",
    "matmul",
    "matrix",
    "matrix_power",
    "matrix_transpose",
    "matvec",
    "max_pool",
    "maximum",
    "mean",
    "median",
    "meshgrid",
    "minimize",
    "minimum",
    "mish",
    "modf",
    "moveaxis",
    "multi_dot",
    "multiply",
    "nan_to_num",
    "nanargmax",
    "nanargmin",
    "nancumprod",
    "nancumsum",
    "nanmax",
    "nanmean",
    "nanmedian",
    "nanmin",
    "nanpercentile",
    "nanprod",
    "nanquantile",
    "nanstd",
    "nansum",
    "nanvar",
    "ndtr",
    "negative",
    "nextafter",
    "nonzero",
    "norm",
    "normal_density",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "origins",
    "outer",
    "pad",
    "partition",
    "percentile",
    "permute_dims",
    "piecewise",
    "poly",
    "polyadd",
    "polyder",
    "polygamma",
    "polyint",
    "polymul",
    "polysub",
    "polyval",
    "positive",
    "power",
    "project",
    "ptp",
    "put_along_axis",
    "quantile",
    "rad2deg",
    "ravel",
    "ravel_multi_index",
    "real",
    "reciprocal",
    "recurrence",
    "register_container",
    "relu",
    "relu6",
    "remainder",
    "repeat",
    "reshape",
    "resize",
    "right_shift",
    "rint",
    "roll",
    "rollaxis",
    "root",
    "rot90",
    "save",
    "scalar",
    "scan",
    "searchsorted",
    "select",
    "selu",
    "setdiff1d",
    "setxor1d",
    "show",
    "sigmoid",
    "sign",
    "signbit",
    "silu",
    "sin",
    "sinc",
    "sinh",
    "sliding_window_view",
    "softmax",
    "softplus",
    "softsign",
    "sort",
    "spacing",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "strong_multiply",
    "subtract",
    "sum_pool",
    "swapaxes",
    "switch",
    "symbol",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "taylor",
    "tensordot",
    "tile",
    "to_networkx",
    "to_sympy",
    "topk",
    "trace",
    "transpose",
    "trapezoid",
    "tri",
    "tril",
    "tril_indices",
    "tril_indices_from",
    "triu",
    "triu_indices",
    "triu_indices_from",
    "trunc",
    "union1d",
    "unique",
    "unravel_index",
    "unstack",
    "unwrap",
    "upsample",
    "value_and_grad",
    "vander",
    "var",
    "vdot",
    "vecdot",
    "vecmat",
    "vector",
    "vjp",
    "vmap",
    "vsplit",
    "vstack",
    "where",
    "while_loop",
    "xlog1py",
    "xlogy",
    "y0",
    "y1",
    "zeros",
    "zeros_like",
]
