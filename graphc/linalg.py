"""What does linear algebra offer?  What graphc has of NumPy's `linalg`, by its names."""

from __future__ import annotations

import graphc.ops  # noqa: F401
from graphc.ops.contract import matmul, outer, tensordot
from graphc.ops.norms import norm

__all__ = ["matmul", "norm", "outer", "tensordot"]
