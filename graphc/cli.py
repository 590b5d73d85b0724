"""What can be done from a shell?  `graphc demo | show | compile | bench | doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Errors that a user can act on are one message, no traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        print(f"graphc {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    import graphc

    parser = argparse.ArgumentParser(prog="graphc", description="Symbolic graphs, compiled to native kernels.")
    parser.add_argument("--version", action="version", version=graphc.__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="train a perceptron on handwritten digits")
    demo.add_argument("--data", metavar="FILE.npz", help="arrays x and y to train on instead of the bundled digits")
    demo.add_argument("--test", metavar="FILE.npz", help="arrays x and y to test on instead of a fifth of the data")
    demo.add_argument("--epochs", type=int, default=30)
    demo.add_argument("--batch", type=int, default=64)
    demo.add_argument("--hidden", type=int, nargs=2, default=(256, 128), metavar="WIDTH")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--shuffles", type=int, default=1, help="train this often, on different splits")
    demo.add_argument("--threads", type=int, default=None)
    demo.add_argument("--folder", help="where to write graphs and sources (default: graphc-demo)")
    demo.set_defaults(run=_demo)

    show = commands.add_parser("show", help="print a graph file")
    show.add_argument("file")
    show.add_argument("--format", default="text", choices=("text", "dot", "svg", "latex"))
    show.set_defaults(run=_show)

    compile_ = commands.add_parser("compile", help="compile a graph file and report on it")
    compile_.add_argument("file")
    compile_.add_argument("--emit", choices=("report", "llvm", "assembly", "cuda"), default="report")
    compile_.set_defaults(run=_compile)

    bench = commands.add_parser("bench", help="time calls and a training step beside NumPy")
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="say what this installation has and does")
    doctor.set_defaults(run=_doctor)
    return parser


def _demo(options: Any) -> int:
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
    return 0


def _show(options: Any) -> int:
    import graphc as gx

    print(gx.show(gx.load(options.file), format=options.format))
    return 0


def _compile(options: Any) -> int:
    import graphc as gx
    from graphc.graph import symbol_op
    from graphc.node import topological

    outputs = gx.load(options.file)
    inputs = [node for node in topological(outputs) if node.op is symbol_op]
    if options.emit == "cuda":
        print(gx.emit(inputs, outputs, target="cuda").text)
        return 0
    function = gx.compile(inputs, outputs)
    shown = {"report": function.report, "llvm": lambda: function.llvm_ir, "assembly": lambda: function.assembly}
    print(shown[options.emit]())
    return 0


def _bench(options: Any) -> int:
    from graphc.bench import run

    print(run())
    return 0


def _doctor(options: Any) -> int:
    from graphc.doctor import diagnose

    print(diagnose())
    return 0
