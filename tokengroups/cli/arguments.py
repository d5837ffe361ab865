"""Options that commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokengroups.cli.output import note
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.postprocess import Step
    from tokengroups.systems import SceneSystem

_MOST_INTEGER = 2**63 - 1
MAX_SIZE_PX = 2048  # of the square photos that networks are given
MAX_COUNT = 1_000_000  # of anything that takes time each
_MOST_PIXELS = 2**26  # of all frames of one generated room, which are in memory together: under 2 GB
DEVICES = ("auto", "cpu", "cuda")
# Copies of `tokengroups.postprocess.STEPS`, `tokengroups.systems.DEFAULT_WEIGHTS` and
# `tokengroups.io.decoding.MAX_MEGAPIXELS`: their import slows --help down.
STEP_NAMES = (
    "bundle_adjustment", "multi_view_stereo", "flip_ensemble", "photometric_refinement", "densify", "boundary_crf",
    "mask_votes",
)  # fmt: skip
DEFAULT_WEIGHTS = "token_groups_tiny"
MAX_MEGAPIXELS = 120.0


def add_number(
    parser: argparse.ArgumentParser,
    name: str,
    low: float,
    high: float | None = None,
    *,
    kind: type[int] | type[float] = int,
    **options: Any,
) -> None:
    """Add an option that takes one number from `low` to `high` (None = any larger one that fits into 64 bits)."""

    def number(text: str) -> float:
        value = kind(text)
        if low <= value <= (_MOST_INTEGER if high is None else high):  # not NaN
            return value
        if high is not None:
            limits = f"choose {low} to {high}"
        else:
            limits = f"must be at least {low}" if value < low else "must fit into 64 bits"
        raise UserError(f"{name} {shown(text)}: {limits}")

    number.__name__ = kind.__name__  # for argparse's message about other words: "invalid int value"
    parser.add_argument(name, type=number, **options)


def add_megapixels_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-megapixels``."""
    text = "leave out photos with more; large ones take up to 20 bytes of memory a pixel (%(default)g)"
    add_number(parser, "--max-megapixels", 1, 10000, kind=float, default=MAX_MEGAPIXELS, metavar="N", help=text)


def add_ignore_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--ignore``."""
    text = "masks of pixels to ignore (value 0), a PNG per photo with its stem or name: 0.png or 0.jpg.png for 0.jpg"
    parser.add_argument("--ignore", type=Path, metavar="DIR", help=text)


def check_room_size(num_frames: int, size: int) -> None:
    """Refuse rooms to be generated that would take too much memory.

    Raises:
        UserError: Says the largest number of frames.
    """
    if num_frames * size**2 > _MOST_PIXELS:
        most = _MOST_PIXELS // size**2
        raise UserError(f"rooms of {num_frames:,} frames of {size}x{size} are too large; at most {most:,} frames fit")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or auto (%(default)s)")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights``, ``--encoder``, ``--postprocess``, ``--fast`` and ``--device``."""
    add = parser.add_argument
    weights_help = """shipped name, weight folder, or published checkpoint of VGGT (groups by geometry alone), IGGT or
        SegVGGT: file, folder or hub id, like facebook/VGGT-1B; see `tokengroups info` (%(default)s)"""
    add("--weights", default=DEFAULT_WEIGHTS, metavar="NAME|DIR|FILE|ID", help=weights_help)
    add("--encoder", metavar="NAME|DIR|ID", help="the weights' encoder: folder or hub id (default: as they name it)")
    steps_help = f"""post-processing: 'none', 'default' (the weights' own) or names with commas between:
        {", ".join(STEP_NAMES)}, or package.module:Class, a step of your own (%(default)s)"""
    add("--postprocess", default="default", metavar="STEPS", help=steps_help)
    fast_help = "approximate attention among 8 photos or more: faster from about 32 on, a little less exact"
    add("--fast", action="store_true", help=fast_help)
    add_device_option(parser)


def add_embed_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--embed``."""
    text = """embed the groups by the photos' features of a dense image encoder: folder or hub id of CLIP or SigLIP, or
        package.module:Class, one of your own; replaces embeddings that the weights predict"""
    parser.add_argument("--embed", metavar="DIR|ID|CLASS", help=text)


def pick_device(name: str) -> str:
    """Find the device that ``--device`` names; ``auto`` is CUDA if torch finds a GPU.

    Raises:
        UserError: An unknown name, or CUDA without a GPU.
    """
    import torch

    if name not in DEVICES:
        raise UserError(f"--device {shown(name)}: give {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def load_model_and_steps(args: argparse.Namespace, device: str) -> tuple[SceneSystem, tuple[Step, ...]]:
    """Load the weights that ``--weights`` names, and find the steps that ``--postprocess`` names.

    A licence that the weights ask for is said in a note.

    Raises:
        UserError: Unusable weights, an unknown step, or one that needs evidence which the encoder does not predict.
    """
    from tokengroups.encoders.weights import approximate
    from tokengroups.postprocess import check_evidence, choose_steps
    from tokengroups.systems import load_model

    model = load_model(args.weights, encoder=args.encoder).to(device)
    if args.fast:
        approximate(model.encoder)
    steps = choose_steps(args.postprocess, model.steps)
    check_evidence(steps, model.encoder)
    if licence := model.licence_with(steps):
        note(licence)
    return model, steps


def with_budget(steps: Sequence[Step], max_gaussians: int | None) -> tuple[tuple[Step, ...], bool]:
    """Steps that keep to a number of Gaussians, and whether one of them takes it; None changes nothing."""
    taking = [step for step in steps if max_gaussians is not None and hasattr(step, "max_gaussians")]
    kept = [replace(step, max_gaussians=max_gaussians) if step in taking else step for step in steps]  # pyright: ignore[reportArgumentType]
    return tuple(kept), bool(taking)


def adjust_model(model: SceneSystem, weights: str, **settings: Any) -> dict[str, Any]:
    """Change settings of a system by the options of their names; None = not given. Returns those that were given.

    Raises:
        UserError: The system has no such setting.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in model.adjustable:
            option = f"--{name.replace('_', '-')}"
            cure = "keep the step densify, or leave" if name == "max_gaussians" else "leave"
            raise UserError(f"{option}: the system of {shown(weights)} has no such setting; {cure} the option out")
    model.adjust(**given)
    return given
