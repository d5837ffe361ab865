"""Entry point of `tokengroups` and `python -m tokengroups`.

Every command is a module of this package with ``HELP`` (one line), ``EXAMPLES`` (shown below the options),
``configure(parser)`` and ``run(args)``. Heavy imports happen in ``run``, so ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from tokengroups.cli import streams
from tokengroups.cli.failures import reason
from tokengroups.cli.output import say
from tokengroups.errors import UserError
from tokengroups.registry import import_plugin

COMMANDS = (
    "reconstruct", "segment", "fit", "embed", "list", "query", "ask", "render", "view", "edit", "export", "import",
    "evaluate", "data", "train", "demo", "info",
)  # fmt: skip
OUTPUT_LOST, USAGE_ERROR, SIGNALLED, INTERRUPTED = 1, 2, 128, 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like those of the commands."""

    def print_help(self, file: Any = None) -> None:
        """Print the help on stdout; argparse would ignore a full disk."""
        del file
        for line in self.format_help().splitlines():
            say(line)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        streams.complain(f"error: {message}; see {self.prog} --help")
        raise SystemExit(USAGE_ERROR)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    0 is success, 2 bad input (nothing was changed), 1 lost output (what the command did is done, but its text could not
    be written) or a scene of a batch that failed, 130 Ctrl-C, 143 SIGTERM. All but 0 come with one line on stderr, but
    for batches, whose lines say what failed.
    """

    def run_command() -> int:
        args = build_parser().parse_args(argv)
        for module in args.plugin:
            import_plugin(module)
        return _run(args.run, args)

    return guarded(run_command)


def run_alone(command: ModuleType, program: str, argv: Sequence[str] | None = None) -> int:
    """Run one command module as a program of its own, such as ``edit.py``; returns the exit code."""
    parser = Parser(program)
    _configure(parser, command)
    return guarded(lambda: _run(command.run, parser.parse_args(argv)))


def _run(command: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """Run a command after the import of torch, which all need and which ends the process if it is interrupted."""
    with streams.signals_waiting():
        import torch  # noqa: F401
    return command(args) or 0


def guarded(action: Callable[[], int | None]) -> int:
    """Call `action`; turn bad input, lack of memory or of output, and interruption into one line and an exit code."""
    try:
        with streams.prepared_streams(), streams.stopped_by_signals():
            try:
                code = action() or 0
            except SystemExit:  # after --help
                streams.flush_stdout()
                raise
            streams.flush_stdout()
        return code
    except BrokenPipeError:  # the reader has closed the pipe, e.g. `tokengroups list ... | head`
        code, line = 0, None
    except KeyboardInterrupt:
        code, line = INTERRUPTED, "interrupted"
    except streams.Stopped as stop:
        code, line = SIGNALLED + stop.number, "stopped by a signal"
    except streams.OutputLost as error:
        code, line = OUTPUT_LOST, f"error: cannot write to standard output: {error}"
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        why = reason(error)
        if why is None:
            raise
        code, line = USAGE_ERROR, f"error: {why}"
    if line is not None:
        streams.complain(line)
    streams.finish_stdout()
    return code


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with one subcommand per module."""
    parser = Parser(
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
