"""Is what users install whole, and is it what these tests test?

Three folders of a checkout become one package. The mapping, the refusal of second copies, the built
distributions and the extras are all things that work on the author's machine and fail on the next
one, unless they are tested.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import PACKAGE, ROOT, run_python

import graphc

FOLDERS = {"graphc": "graphc", "graphc/codegen": "codegen", "graphc/runtime": "runtime"}
DISTRIBUTION = "graphc-compiler"


def configuration() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config["DEFAULT"] = {}
    config.read_string((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    return config


def source_files() -> set[str]:
    """Every module, by its name in the package."""
    return {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for place, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }


# -- which graphc is under test --------------------------------------------------------------------


def test_all_of_it_comes_from_one_place() -> None:
    installed = PACKAGE.parent != ROOT
    for name in ("codegen", "runtime"):
        module = importlib.import_module(f"graphc.{name}")
        folder = PACKAGE / name if installed else ROOT / name
        assert Path(module.__file__ or "").resolve().parent == folder


def test_the_installed_package_is_tested_when_asked_for(pytestconfig: pytest.Config) -> None:
    """`.ci/run` asks for it with --installed."""
    if not pytestconfig.getoption("--installed"):
        pytest.skip("only with --installed")
    assert "site-packages" in PACKAGE.parts
    assert ROOT not in PACKAGE.parents
    assert importlib.metadata.version(DISTRIBUTION) == graphc.__version__
    assert str(ROOT) not in sys.path


@pytest.mark.parametrize("name", ["codegen", "runtime"])
def test_a_second_copy_is_refused(name: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
try:
    import {name}
except ImportError as error:
    print(error)
"""
    assert f"import graphc.{name}, not {name}" in run_python("-c", code, folder=tmp_path)


def test_a_bare_checkout_works(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:] = [{str(ROOT)!r}, *sys.path]
import graphc as gx
x = gx.vector("x", 3)
print(gx.__file__, gx.compile([x], x + x)([1.0, 2.0, 3.0]))
"""
    assert run_python("-c", code, folder=tmp_path).strip() == (
        f"{ROOT / 'graphc' / '__init__.py'} [2. 4. 6.]"
    )


# -- what importing costs --------------------------------------------------------------------------


def test_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, graphc; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(run_python("-c", code, folder=tmp_path).split())
    assert not loaded & {"llvmlite", "sympy", "networkx", "scipy", "sklearn", "rich", "cuda"}


def test_building_and_differentiating_load_neither_llvm_nor_sympy(tmp_path: Path) -> None:
    code = """
import sys, graphc as gx
x = gx.matrix("x", ("n", 3))
print(gx.grad(gx.sum(gx.log(x)), x))
print(*sorted({name.split('.')[0] for name in sys.modules}))
print(*[name for name in sys.modules if name.startswith(("graphc.codegen", "graphc.runtime"))])
"""
    *_, roots, rooms = run_python("-c", code, folder=tmp_path).split("\n")[:-1]
    assert not set(roots.split()) & {"llvmlite", "sympy", "networkx", "scipy"}
    assert not rooms.split()


# -- distributions ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and a source distribution, built in a copy of the project."""
    pytest.importorskip("setuptools")
    project = tmp_path_factory.mktemp("build") / "project"
    skip = shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info", "tests", ".*")
    shutil.copytree(ROOT, project, ignore=skip)
    code = "import setuptools.build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return project / "dist"


def test_the_wheel_holds_every_module_and_the_marker_of_types(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"graphc_compiler-{graphc.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt")))
    packed = {name for name in names if ".dist-info/" not in name}
    texts = {f"graphc/runtime/ir/{path.name}" for path in (ROOT / "runtime" / "ir").glob("*.ll")}
    assert texts and packed == source_files() | texts | {"graphc/py.typed"}
    assert b"graphc = graphc.cli:main" in entry_points
    assert any(name.endswith("LICENSE") for name in names)


def test_the_source_distribution_can_build_the_same(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    in_checkout = {
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS.values()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert in_checkout <= names
    assert {"graphc/py.typed", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_every_package_is_listed() -> None:
    listed = configuration()["options"]["packages"].split()
    found = {name.rpartition("/")[0].replace("/", ".") for name in source_files()}
    assert sorted(listed) == sorted(found)


# -- metadata --------------------------------------------------------------------------------------


def extras() -> dict[str, set[str]]:
    """The packages of each extra, by normal name."""
    section = configuration()["options.extras_require"]
    raw = {name: section.get(name, raw=True).split("\n") for name in section}

    def packages(name: str) -> set[str]:
        found: set[str] = set()
        for line in filter(None, map(str.strip, raw[name])):
            inner = re.fullmatch(r"%\((\w+)\)s", line)
            found |= packages(inner[1]) if inner else {normal(re.split(r"[<>=; ]", line)[0])}
        return found

    return {name: packages(name) for name in raw}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_extras() -> None:
    found = extras()
    assert {"examples", "test", "cuda", "all", "bfloat16", "scipy"} <= set(found)
    parts = found["examples"] | found["cuda"] | found["bfloat16"] | found["scipy"]
    assert found["all"] == parts
    assert found["all"] <= found["test"]


def test_errors_that_name_an_extra_name_one_that_brings_the_package() -> None:
    found = extras()
    required = {
        normal(re.split(r"[<>=; ]", line)[0])
        for line in configuration()["options"]["install_requires"].split("\n")
        if line
    }
    calls = []
    for folder in FOLDERS.values():
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            calls += re.findall(r'missing_extra\(\s*"([^"]+)",\s*"([^"]+)"', text)
            calls += re.findall(r"the package (\w+): pip install 'graphc-compiler\[(\w+)\]", text)
    assert len(calls) >= 3
    for package, extra in calls:
        assert normal(package) in found[extra] | required, (package, extra)


def test_metadata_of_an_installed_graphc() -> None:
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("graphc is not installed")
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(extras())


def test_the_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {graphc.__version__}" in text


# -- types -----------------------------------------------------------------------------------------


def test_the_names_for_type_checkers_are_those_of_the_run_time() -> None:
    """`__all__` is written out for type checkers; each of its names must load, and be listed."""
    assert len(set(graphc.__all__)) == len(graphc.__all__)
    for name in graphc.__all__:
        assert getattr(graphc, name) is not None
    assert set(graphc.__all__) <= set(dir(graphc))
    assert set(graphc._HOMES) <= set(graphc.__all__)


@pytest.mark.slow
def test_a_strict_type_checker_sees_the_surface(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "user.py"
    program.write_text(
        "import graphc as gx\n"
        "x = gx.vector('x', 3)\n"
        "reveal_type(x)\n"
        "f = gx.compile([x], gx.grad(gx.sum(gx.tanh(x)), x), options=gx.Options(threads=1))\n"
    )
    code = (
        "import mypy.api, sys; "
        "print(mypy.api.run(['--strict', '--follow-imports=silent', '--cache-dir', 'c', "
        "'user.py']))"
    )
    output = run_python("-c", code, folder=tmp_path)
    assert "graphc.node.Node" in output
    assert "explicitly export" not in output
    assert "Success: no issues found" in output
