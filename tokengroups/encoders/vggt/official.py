"""Loading of the published VGGT-1B weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tokengroups.checkpoint import load_state_strict, read_tensors
from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.model import VGGT
from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder, is_hub_id, not_typed
from tokengroups.reading import path_kind, shown

FILE_NAME = "model.safetensors"
DROPPED_PREFIX = "track_head."


def load_official(source: str | Path, config: VGGTConfig | None = None, *, typed: bool = True) -> VGGT:
    """Load a frozen VGGT with the published weights.

    Args:
        source: A safetensors file, a folder that holds `model.safetensors`, or a hub id such as
            "facebook/VGGT-1B" (the only case that touches the network, and only if nothing is cached).
        config: Sizes; VGGT-1B if not given. A head that it disables is left out.
        typed: Whether the user typed the source; the hub is asked for nothing else.

    Raises:
        UserError: If the file is missing, or its tensors are not exactly those of the configuration plus the
            tracking head, which this package does not have; the point head may be missing.
    """
    path = find_official(source, typed=typed)
    stored, sizes = read_tensors(path), config or VGGTConfig()
    if not any(name.startswith("point_head.") for name in stored):
        sizes = replace(sizes, enable_point=False)  # whoever only encodes photos needs none
    with torch.device("meta"):
        model = VGGT(sizes)
    dropped = [DROPPED_PREFIX]
    dropped += [f"{name}." for name in ("point_head", "depth_head") if getattr(model, name) is None]
    tensors = {k: v.float() for k, v in stored.items() if not k.startswith(tuple(dropped))}
    load_state_strict(model, tensors, path, assign=True)
    return model.freeze()


def find_official(source: str | Path, *, typed: bool = True) -> Path:
    """Local path of the weights file; arguments and errors as in `load_official`."""
    path, kind = Path(source), path_kind(source)
    if kind == "file" and path.suffix.lower() in (".pt", ".pth"):
        raise UserError(f"{shown(path)}: a PyTorch checkpoint; give VGGT's weights as {FILE_NAME}")
    if kind == "file":
        return path
    if kind == "folder":
        if path_kind(path / FILE_NAME) != "file":
            raise UserError(f"no {FILE_NAME} in {shown(path)}; download it from the model's page into this folder")
        return path / FILE_NAME
    if isinstance(source, Path) or not is_hub_id(source):
        raise UserError(f"no VGGT weights at {shown(source)}; give a file, a folder or a hub id like facebook/VGGT-1B")
    if not typed:
        raise not_typed("encoder", source, "--encoder ID (Python: load_model(..., encoder=ID)), or a folder")
    file = hub_folder(source, [FILE_NAME]) / FILE_NAME
    if not file.is_file():
        raise UserError(f"the hub's '{source}' holds no {FILE_NAME}; check the id, or give a local file")
    return file
