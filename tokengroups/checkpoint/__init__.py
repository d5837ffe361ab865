"""Weight files: safetensors with a digest of their content, weight folders, checkpoints of others, strict loading."""

from __future__ import annotations

from tokengroups.checkpoint.folders import (
    CONFIG_FILE,
    SHIPPED,
    WEIGHTS_FILE,
    find_weights,
    load_weights,
    map_weights,
    read_config,
    save_weights,
    shipped_weights,
)
from tokengroups.checkpoint.foreign import PICKLES, find_checkpoint, map_checkpoint
from tokengroups.checkpoint.state import adopt_state, load_state_strict
from tokengroups.checkpoint.tensors import UNCHECKED, read_metadata, read_tensors, write_tensors

__all__ = [
    "CONFIG_FILE",
    "PICKLES",
    "SHIPPED",
    "UNCHECKED",
    "WEIGHTS_FILE",
    "adopt_state",
    "find_checkpoint",
    "find_weights",
    "load_state_strict",
    "load_weights",
    "map_checkpoint",
    "map_weights",
    "read_config",
    "read_metadata",
    "read_tensors",
    "save_weights",
    "shipped_weights",
    "write_tensors",
]
