"""Weight folders of this package: tensors and the configuration that builds the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokengroups.checkpoint.tensors import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.files import make_folder, write_text
from tokengroups.reading import path_kind, read_json, shown

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
SHIPPED = Path(__file__).parent.parent / "weights"
_STORAGE = "storage"  # metadata key of weight files; "float16": stored in half precision, used in float32
_LARGEST_CONFIG = 2**20  # bytes


def shipped_weights() -> list[str]:
    """Names of the weight folders that come with the package."""
    return sorted(folder.parent.name for folder in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def find_weights(source: str | Path) -> Path | None:
    """Find the weight folder of a shipped name or a path; None if there is none."""
    for folder in (SHIPPED / str(source), Path(source)):
        if path_kind(folder / CONFIG_FILE) == "file":
            return folder
    return None


def save_weights(
    folder: str | Path, state_dict: Mapping[str, Tensor], config: Mapping[str, Any], half: bool = False
) -> None:
    """Write a weight folder: ``model.safetensors`` and the readable ``config.json`` that builds the model.

    Args:
        folder: Created where missing; its files are replaced one by one, atomically.
        state_dict: State of the module.
        config: Plain values, as from `tokengroups.config.config_to_dict`.
        half: Store float32 tensors as float16 (half the size); `load_weights` gives float32 back.

    Raises:
        UserError: The operating system refused to write.
        ValueError: `half`, and a value does not fit into float16.
    """
    folder = make_folder(folder)
    metadata = {"format": "pt"}
    if half:
        state_dict = {name: _halved(name, tensor) for name, tensor in state_dict.items()}
        metadata[_STORAGE] = "float16"
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n", durable=True)
    write_tensors(folder / WEIGHTS_FILE, state_dict, metadata)


def _halved(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise ValueError(f"'{name}' holds values beyond float16's range (largest {tensor.abs().max():.3g})")
    return half


def load_weights(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a weight folder written by `save_weights`.

    Returns:
        The tensors (float32 again if they were stored in half precision) and the configuration.

    Raises:
        UserError: A file is missing or damaged.
    """
    tensors, config = map_weights(folder)
    if read_metadata(Path(folder) / WEIGHTS_FILE).get(_STORAGE) == "float16":
        # Some shipped tensors were stored in 8 bits by hand.
        small = (torch.float16, torch.float8_e4m3fn)
        tensors = {name: t.float() if t.dtype in small else t for name, t in tensors.items()}
    return tensors, config


def map_weights(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """As `load_weights`, with the tensors mapped from the file in its own precision: for `adopt_state`."""
    config = read_config(folder)
    return read_tensors(Path(folder) / WEIGHTS_FILE), config


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read the configuration of a weight folder; errors as in `load_weights`."""
    folder = Path(folder)
    if path_kind(folder) != "folder":
        raise UserError(f"no weights at {shown(folder)}: give a folder that holds {WEIGHTS_FILE} and {CONFIG_FILE}")
    config = read_json(folder / CONFIG_FILE, "a weight folder needs it; get a fresh copy", _LARGEST_CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG_FILE}: must hold a JSON object; get a fresh copy")
    return config
