"""The ``--device`` option that commands share."""

from __future__ import annotations

import argparse

from tokengroups.errors import UserError

DEVICES = ("auto", "cpu", "cuda")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto (%(default)s)")


def pick_device(name: str) -> str:
    """``auto`` is CUDA where torch sees a device.

    Raises:
        UserError: An unknown name, or CUDA where there is none.
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"--device {name}: give {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
