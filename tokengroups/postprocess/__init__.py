"""Optional steps on an encoder's geometry or a system's prediction: `Draft -> Draft`."""

from __future__ import annotations

from tokengroups.postprocess.draft import Draft, KnownPoses, PhotoGroups, Prediction, Reconstruction, token_scene
from tokengroups.postprocess.known_poses import place
from tokengroups.postprocess.registration import Registration, register_photos
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
    "STEPS", "Draft", "KnownPoses", "PhotoGroups", "Prediction", "Reconstruction", "Registration", "Step", "StepSpec",
    "build_steps", "check_evidence", "choose_steps", "describe_steps", "place", "register_photos", "run_steps",
    "step_name", "token_scene",
]  # fmt: skip
