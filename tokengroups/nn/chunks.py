"""How much networks compute at a time where no gradient is wanted: bounds on their memory.

A CPU is also a little faster on what fits into its caches; a GPU needs larger pieces to be busy.
"""

from __future__ import annotations

import torch

_TOKENS = {"cpu": 2048}
_PIXELS = {"cpu": 2**16}


def token_budget(device: torch.device) -> int:
    """Tokens of a transformer block at a time."""
    return _TOKENS.get(device.type, 8192)


def pixel_budget(device: torch.device) -> int:
    """Photo pixels of a dense head at a time; elsewhere than on a CPU two photos of VGGT's size."""
    return _PIXELS.get(device.type, 2 * 518 * 518)
