"""Where do nodes come from?  The tests of `alone/origins.py`, in a process of their own.

Equal expressions are one node in a whole process, with the origins of all who wrote it. So what a
node's origins are can only be told where no other test has written the same.
"""

from __future__ import annotations

from places import ROOT, run_python


def test_origins() -> None:
    tests = ROOT / "tests" / "alone" / "origins.py"
    said = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), folder=ROOT)
    assert " passed" in said and " failed" not in said
