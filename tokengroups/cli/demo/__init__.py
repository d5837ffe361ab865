"""`tokengroups demo`: everything once on held-out rooms, and a page that shows it."""

from tokengroups.cli.demo.command import EXAMPLES, HELP, configure, run

__all__ = ["EXAMPLES", "HELP", "configure", "run"]
