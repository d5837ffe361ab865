"""Mixed precision."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Context in which matrix products run in bfloat16 if `precision` is "bf16"; a no-op otherwise."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
