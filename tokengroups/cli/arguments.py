"""Kinds of command-line arguments that commands share."""

from __future__ import annotations

import argparse
from typing import Any

from tokengroups.errors import UserError


def add_number(
    parser: argparse.ArgumentParser,
    name: str,
    low: float,
    high: float | None = None,
    *,
    kind: type[int] | type[float] = int,
    **options: Any,
) -> None:
    """Add an option that takes one number within limits.

    Args:
        parser: The command's parser.
        name: The option, such as ``--size``.
        low: Smallest value.
        high: Largest value; None = any.
        kind: `int` or `float`.
        **options: Further arguments of `argparse.ArgumentParser.add_argument`.
    """
    limits = f"must be at least {low}" if high is None else f"choose {low} to {high}"

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= (float("inf") if high is None else high):
            raise UserError(f"{name} {text}: {limits}")
        return value

    number.__name__ = kind.__name__  # argparse's message on what is no number: "invalid int value"
    parser.add_argument(name, type=number, **options)
