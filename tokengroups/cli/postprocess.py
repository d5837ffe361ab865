"""The ``--postprocess`` option that commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokengroups.postprocess import Step
    from tokengroups.systems import SceneSystem

# The keys of `tokengroups.postprocess.STEPS`, whose import would slow down every --help.
STEP_NAMES = ("bundle_adjustment", "flip_ensemble", "photometric_refinement", "boundary_crf")


def add_postprocess_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--postprocess``."""
    parser.add_argument(
        "--postprocess",
        default="default",
        metavar="STEPS",
        help="post-processing: 'none', 'default' (the weights' own) or names with commas between: "
        f"{', '.join(STEP_NAMES)}, or package.module:Class, a step of your own (%(default)s)",
    )


def pick_steps(choice: str, model: SceneSystem) -> tuple[Step, ...]:
    """Find the steps that ``--postprocess`` names.

    Raises:
        UserError: An unknown step, or one that the model's encoder cannot serve.
    """
    from tokengroups.postprocess import check_evidence, choose_steps

    steps = choose_steps(choice, model.steps)
    check_evidence(steps, model.encoder)
    return steps
