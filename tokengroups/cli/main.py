"""Entry point of `tokengroups` and `python -m tokengroups`.

Every command is a module of this package with ``HELP`` (one line), ``EXAMPLES`` (shown below the options),
``configure(parser)`` and ``run(args)``. Heavy imports happen in ``run``, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
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
    except BrokenPipeError:  # e.g. `tokengroups list ... | head`: the reader has seen enough
        sys.stderr.close()
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser with one subcommand per installed command module."""
    parser = argparse.ArgumentParser(
        prog="tokengroups",
        description="Photos of a room in; a 3D scene out whose objects can be listed, edited, exported.",
        epilog="`tokengroups COMMAND --help` shows the options and an example.",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first; needed for weights that name a part of your own (may be repeated)",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = _command_module(name)
        if module is None:
            continue
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


def _command_module(name: str) -> ModuleType | None:
    """The module of a command (`import` lives in `import_`: the bare word is a keyword)."""
    qualified = f"{__package__}.{name}" + ("_" if name == "import" else "")
    if importlib.util.find_spec(qualified) is None:
        return None
    return importlib.import_module(qualified)
