"""Options that commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.postprocess import Step
    from tokengroups.systems import SceneSystem

DEVICES = ("auto", "cpu", "cuda")
# Copies of `tokengroups.postprocess.STEPS` and `tokengroups.systems.DEFAULT_WEIGHTS`: their import slows --help down.
STEP_NAMES = ("bundle_adjustment", "flip_ensemble", "photometric_refinement", "boundary_crf")
DEFAULT_WEIGHTS = "token_groups_tiny"


def add_number(
    parser: argparse.ArgumentParser,
    name: str,
    low: float,
    high: float | None = None,
    *,
    kind: type[int] | type[float] = int,
    **options: Any,
) -> None:
    """Add an option that takes one number from `low` to `high` (None = any larger number)."""
    limits = f"must be at least {low}" if high is None else f"choose {low} to {high}"

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= (float("inf") if high is None else high):
            raise UserError(f"{name} {text}: {limits}")
        return value

    number.__name__ = kind.__name__  # for argparse's message about other words: "invalid int value"
    parser.add_argument(name, type=number, **options)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto (%(default)s)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``, ``--encoder``, ``--postprocess`` and ``--device``."""
    add = parser.add_argument
    add("--weights", default=DEFAULT_WEIGHTS, metavar="NAME|DIR", help="shipped name or weight folder (%(default)s)")
    add("--encoder", metavar="NAME|DIR|ID", help="the weights' encoder: folder or hub id (default: as they name it)")
    steps_help = f"""post-processing: 'none', 'default' (the weights' own) or names with commas between:
        {", ".join(STEP_NAMES)}, or package.module:Class, a step of your own (%(default)s)"""
    add("--postprocess", default="default", metavar="STEPS", help=steps_help)
    add_device_option(parser)


def pick_device(name: str) -> str:
    """Find the device that ``--device`` names; ``auto`` is CUDA if torch finds a GPU.

    Raises:
        UserError: An unknown name, or CUDA without a GPU.
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"--device {name}: give {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def load_model_and_steps(args: argparse.Namespace, device: str) -> tuple[SceneSystem, tuple[Step, ...]]:
    """Load the weights that ``--weights`` names, and find the steps that ``--postprocess`` names.

    Raises:
        UserError: Unusable weights, an unknown step, or one that needs evidence which the encoder does not predict.
    """
    from tokengroups.postprocess import check_evidence, choose_steps
    from tokengroups.systems import load_model

    model = load_model(args.weights, encoder=args.encoder).to(device)
    steps = choose_steps(args.postprocess, model.steps)
    check_evidence(steps, model.encoder)
    return model, steps
