"""Which graphc is under test, and what do all tests share?

A checkout holds the package in three folders, so a test run that starts in it could test a
different graphc from the one that users install. The rule: an installed graphc is the one under
test, whatever the current directory; without one, the checkout is. `pytest --installed` insists: it
fails unless graphc came from site-packages.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import sysconfig
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _prefer_installed() -> None:
    """Take the checkout off the import path, and put it back only if no graphc is installed.

    `python -m pytest` and PYTHONPATH would put it first. Tests still find each other as
    `tests.<folder>`.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    importlib.invalidate_caches()
    if importlib.util.find_spec("graphc") is None:
        sys.path.insert(0, str(ROOT))
    tests = sys.modules.setdefault("tests", types.ModuleType("tests"))
    tests.__path__ = [str(ROOT / "tests")]


_prefer_installed()

from places import PACKAGE  # noqa: E402

import graphc  # noqa: E402


def is_installed() -> bool:
    """Whether the graphc under test is a regular install, not a checkout or a link to one."""
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(place in PACKAGE.parents for place in places)


# -- options and profiles --------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        action="store_true",
        help="fail unless the graphc under test is installed in site-packages",
    )
    parser.addoption(
        "--regenerate", action="store_true", help="write the golden files that tests compare with"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--installed") and not is_installed():
        raise pytest.UsageError(f"--installed: graphc is {PACKAGE}, which is not in site-packages")
    _choose_profile(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell, which ignores interrupts for its children and
        # theirs: tests that send one to a process of their own would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _choose_profile(config: pytest.Config) -> None:
    """The same examples in every run, so that a failure is never a matter of luck.

    `--hypothesis-seed=N` (or `=random`) looks for new ones; hypothesis prints the seed of a
    failure.
    """
    try:
        import hypothesis
    except ImportError:
        return
    checks = hypothesis.HealthCheck
    common = {
        "deadline": None,
        "print_blob": True,
        "suppress_health_check": [checks.too_slow, checks.data_too_large],
    }
    hypothesis.settings.register_profile("repeatable", derandomize=True, **common)
    hypothesis.settings.register_profile("searching", **common)
    seeded = config.getoption("--hypothesis-seed", default=None) is not None
    hypothesis.settings.load_profile("searching" if seeded else "repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out unless a marker expression or a test's own name asks for them."""
    if config.getoption("markexpr") or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if "slow" in item.keywords]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if "slow" not in item.keywords]


def pytest_report_header(config: pytest.Config) -> str:
    kind = "installed" if is_installed() else "checkout"
    return f"graphc {graphc.__version__} under test ({kind}): {PACKAGE}"


# -- what was counted ------------------------------------------------------------------------------

# For each heading, how many checks of each kind have run. Filled by the `count` fixture.
_COUNTS: dict[str, Counter[str]] = {}


@pytest.fixture
def count() -> Callable[..., None]:
    """`count(heading, kind)` adds to a table that the summary of the run shows."""

    def add(heading: str, kind: str, amount: int = 1) -> None:
        _COUNTS.setdefault(heading, Counter())[kind] += amount

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of `pytest -n` tells the process that prints the summary."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["counts"] = {heading: dict(counter) for heading, counter in _COUNTS.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for heading, counts in getattr(node, "workeroutput", {}).get("counts", {}).items():
        _COUNTS.setdefault(heading, Counter()).update(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for heading, counter in sorted(_COUNTS.items()):
        parts = ", ".join(f"{number} {kind}" for kind, number in sorted(counter.items()))
        terminalreporter.write_line(f"{heading}: {sum(counter.values())} checks ({parts})")
