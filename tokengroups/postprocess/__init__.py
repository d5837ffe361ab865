"""Optional steps on an encoder's geometry or a system's prediction: `Draft -> Draft`."""

from __future__ import annotations

from tokengroups.postprocess.draft import Draft, PhotoGroups, Prediction, Reconstruction, token_scene
from tokengroups.postprocess.steps import (
    STEPS,
    Step,
    StepSpec,
    build_steps,
    check_evidence,
    choose_steps,
    describe_steps,
    run_steps,
    step_name,
)

__all__ = [
    "STEPS", "Draft", "PhotoGroups", "Prediction", "Reconstruction", "Step", "StepSpec", "build_steps",
    "check_evidence", "choose_steps", "describe_steps", "run_steps", "step_name", "token_scene",
]  # fmt: skip
