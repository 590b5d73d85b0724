"""What can be done from a shell?  `graphc demo | show | compile | bench | doctor`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can act on are one message, no
    traceback.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `graphc show FILE | head`: nobody reads on, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ImportError, ValueError, TypeError, RuntimeError, OSError) as error:
        print(f"graphc {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    import graphc

    parser = argparse.ArgumentParser(
        prog="graphc", description="Symbolic graphs, compiled to native kernels."
    )
    parser.add_argument("--version", action="version", version=graphc.__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="train a perceptron on handwritten digits")
    demo.add_argument("--data", metavar="FILE.npz", help="arrays x, y to train on, not the digits")
    demo.add_argument("--test", metavar="FILE.npz", help="arrays x, y to test on, not a fifth")
    demo.add_argument("--epochs", type=int, help="default: 60, or 10 for 10,000 pictures and more")
    demo.add_argument("--batch", type=int, help="default: 32, or 128 for 10,000 pictures and more")
    demo.add_argument("--hidden", type=int, nargs=2, default=(256, 128), metavar="WIDTH")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--shuffles", type=int, default=1, help="train this often, on different splits"
    )
    demo.add_argument("--threads", type=int, help="default: all CPUs that the process may use")
    demo.add_argument("--folder", help="where to write graphs and sources (default: graphc-demo)")
    demo.set_defaults(run=_demo)

    show = commands.add_parser("show", help="print a graph file, as written by gx.save")
    show.add_argument("file")
    show.add_argument("--format", default="text", choices=("text", "dot", "svg", "latex", "html"))
    show.add_argument(
        "--target", choices=("cuda",), help="the launches and kernels instead, and what they cost"
    )
    show.add_argument("--arch", default="sm_90", metavar="sm_N", help="the GPU; default: sm_90")
    show.add_argument(
        "--size", action="append", default=[], metavar="NAME=N", help="the extent of a dimension"
    )
    show.set_defaults(run=_show)

    compile_ = commands.add_parser("compile", help="compile a graph file and report on it")
    compile_.add_argument("file")
    compile_.add_argument("--emit", choices=tuple(_EMITTED), default="report")
    compile_.add_argument(
        "--host", action="store_true", help="with --emit cuda: a launcher in C++, and its header"
    )
    compile_.set_defaults(run=_compile)

    bench = commands.add_parser("bench", help="time calls and a training step beside NumPy")
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="say what this installation has and does")
    doctor.set_defaults(run=_doctor)
    return parser


def _demo(options: Any) -> None:
    from graphc.demo import Settings, run

    settings = Settings(
        epochs=options.epochs,
        batch=options.batch,
        hidden=tuple(options.hidden),
        seed=options.seed,
        shuffles=options.shuffles,
        threads=options.threads,
    )
    run(settings, options.data, options.test, options.folder)


def _show(options: Any) -> None:
    import graphc as gx

    if options.target is None:
        print(gx.show(gx.load(options.file), format=options.format))
        return
    from graphc.runtime.cuda.report import shown

    print(shown(*_loaded(options.file), options.arch, _sizes(options.size)))


def _sizes(listed: Sequence[str]) -> dict[str, int]:
    """The extents of `--size NAME=N`."""
    found = {}
    for each in listed:
        name, _, value = each.partition("=")
        if not name or not value.isdecimal():
            raise ValueError(f"--size takes NAME=N, like n=1024, got {each!r}")
        found[name] = int(value)
    return found


def _loaded(file: str) -> tuple[list[Any], Any]:
    """The inputs and outputs of a graph file."""
    import graphc as gx
    from graphc.graph import symbol_op
    from graphc.node import topological
    from graphc.tree import flatten

    outputs = gx.load(file)
    return [node for node in topological(flatten(outputs)[0]) if node.op is symbol_op], outputs


# What `graphc compile --emit` prints of a Function.
_EMITTED = {
    "report": lambda function: function.report(),
    "llvm": lambda function: function.llvm_ir,
    "assembly": lambda function: function.assembly,
    # these come from the graph: there is no Function for them
    "c": None,
    "cuda": None,
}


def _compile(options: Any) -> None:
    import graphc as gx

    inputs, outputs = _loaded(options.file)
    shown = _EMITTED[options.emit]
    if shown is None:
        emitted = gx.emit(inputs, outputs, target=options.emit)
        if options.host and options.emit == "cuda":
            source, header = emitted.host()
            print(f"{header}\n{source}")
        else:
            print(emitted.text)
    else:
        print(shown(gx.compile(inputs, outputs)))


def _bench(options: Any) -> None:
    from graphc.bench import run

    print(run())


def _doctor(options: Any) -> None:
    from graphc.doctor import diagnose

    print(diagnose())
