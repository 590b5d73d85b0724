"""Is `ml_dtypes` needed by those only who use bfloat16, and named to those who lack it?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graphc as gx

ROOT = Path(gx.__file__).parent.parent

WITHOUT = """
import sys
sys.modules["ml_dtypes"] = None  # as if it were not installed
import graphc as gx, numpy as np
x = gx.symbol("x", (3,), "float16")
assert gx.compile([x], gx.sum(x * 2))(np.ones(3, "float16")) == 6
for build in (
    lambda: gx.symbol("y", (3,), "bfloat16"),
    lambda: x.astype("bfloat16"),
    lambda: gx.zeros((2,), "bfloat16"),
):
    try:
        build()
    except ImportError as error:
        assert "graphc-compiler[bfloat16]" in str(error), error
    else:
        raise AssertionError("bfloat16 without ml_dtypes")
"""
UNUSED = """
import sys
import graphc as gx, numpy as np
x = gx.symbol("x", (3,), "float32")
gx.compile([x], gx.exp(x))(np.ones(3, "float32"))
assert "ml_dtypes" not in sys.modules
"""


@pytest.mark.parametrize("script", [WITHOUT, UNUSED], ids=["without", "unused"])
def test_in_a_fresh_process(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
