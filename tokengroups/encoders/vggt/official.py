"""Loading of the published VGGT-1B weights."""

from __future__ import annotations

from pathlib import Path

import torch

from tokengroups.checkpoint import load_state_strict, read_tensors
from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.model import VGGT
from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder, is_hub_id

FILE_NAME = "model.safetensors"
DROPPED_PREFIX = "track_head."


def load_official(source: str | Path, config: VGGTConfig | None = None) -> VGGT:
    """Load a frozen VGGT with the published weights.

    Args:
        source: A safetensors file, a folder that holds `model.safetensors`, or a hub id such as
            "facebook/VGGT-1B" (the only case that touches the network, and only if nothing is cached).
        config: Sizes; VGGT-1B if not given. A head that it disables is left out.

    Raises:
        UserError: If the file is missing, or its tensors are not exactly those of the configuration plus the
            tracking head, which this package does not have.
    """
    path = find_official(source)
    with torch.device("meta"):
        model = VGGT(config or VGGTConfig())
    dropped = [DROPPED_PREFIX]
    dropped += [f"{name}." for name in ("point_head", "depth_head") if getattr(model, name) is None]
    tensors = {k: v.float() for k, v in read_tensors(path).items() if not k.startswith(tuple(dropped))}
    load_state_strict(model, tensors, path, assign=True)
    return model.freeze()


def find_official(source: str | Path) -> Path:
    """Local path of the weights file."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise UserError(f"no {FILE_NAME} in {path}; download it from the model's page into this folder")
        return path / FILE_NAME
    if isinstance(source, Path) or not is_hub_id(source):
        raise UserError(f"no VGGT weights at {source}; give a file, a folder or a hub id like facebook/VGGT-1B")
    file = hub_folder(source, [FILE_NAME]) / FILE_NAME
    if not file.is_file():
        raise UserError(f"the hub's '{source}' holds no {FILE_NAME}; check the id, or give a local file")
    return file
