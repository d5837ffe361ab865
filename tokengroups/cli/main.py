"""Entry point of `tokengroups` and `python -m tokengroups`.

Every command is a module of this package with ``HELP`` (one line), ``EXAMPLES`` (shown below the options),
``configure(parser)`` and ``run(args)``. Heavy imports happen in ``run``, so ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from tokengroups.errors import UserError
from tokengroups.registry import import_plugin

COMMANDS = (
    "reconstruct", "fit", "list", "query", "render", "edit", "export", "import", "evaluate", "data", "train", "demo",
    "info",
)  # fmt: skip
USAGE_ERROR, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for bad input (one line on stderr), 130 after Ctrl-C."""

    def run_command() -> None:
        args = build_parser().parse_args(argv)
        for module in args.plugin:
            import_plugin(module)
        args.run(args)

    return guarded(run_command)


def run_alone(command: ModuleType, program: str, argv: Sequence[str] | None = None) -> int:
    """Run one command module as a program of its own, such as ``edit.py``; returns the exit code."""
    parser = argparse.ArgumentParser(program)
    _configure(parser, command)
    return guarded(lambda: command.run(parser.parse_args(argv)))


def guarded(action: Callable[[], None]) -> int:
    """Call `action`; turn bad input and interruption into one line on stderr and an exit code."""
    try:
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe, e.g. `tokengroups list ... | head`
        sys.stderr.close()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with one subcommand per module."""
    parser = argparse.ArgumentParser(
        prog="tokengroups",
        description="Photos of a room in; a 3D scene out whose objects can be listed, edited, exported.",
        epilog="`tokengroups COMMAND --help` shows the options and an example.",
    )
    plugin_help = "import this module first; weights that name a class of your own need it (may be repeated)"
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help=plugin_help)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__package__}.{'import_' if name == 'import' else name}")
        command = commands.add_parser(name, help=module.HELP)
        _configure(command, module)
        command.set_defaults(run=module.run)
    return parser


def _configure(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    """Give a parser the command's options and texts."""
    parser.description = command.HELP
    parser.epilog = f"examples:\n{command.EXAMPLES.rstrip()}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    command.configure(parser)
