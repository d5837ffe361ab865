"""Loading of the published VGGT-1B weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from tokengroups.checkpoint import adopt_state, find_checkpoint, map_checkpoint
from tokengroups.encoders.published import article, kind_of
from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.model import VGGT
from tokengroups.errors import UserError
from tokengroups.io.hub import WEIGHT_FILES, hub_folder, is_hub_id, not_typed
from tokengroups.nn.limits import unfilled
from tokengroups.reading import path_kind, shown

DROPPED_PREFIX = "track_head."


def load_official(source: str | Path, config: VGGTConfig | None = None, *, typed: bool = True) -> VGGT:
    """Load a frozen VGGT with the published weights, mapped from the file.

    Args:
        source: A file of safetensors or of torch.save, a folder that holds it, whole or in shards, or a hub id such as
            "facebook/VGGT-1B" (the only case that touches the network, and only if nothing is cached).
        config: Sizes; VGGT-1B if not given. A head that it disables is left out, and so is a point head that the file
            does not have.
        typed: Whether the user typed the source; the hub is asked for nothing else.

    Raises:
        UserError: If the file is missing, or its tensors are not exactly those of the configuration plus the
            tracking head, which this package does not have; the point head may be missing.
    """
    path = find_official(source, typed=typed)
    tensors = map_checkpoint(path)
    kind = kind_of(tensors)
    if kind not in ("VGGT", ""):
        raise UserError(f"{shown(path)}: {article(kind)} checkpoint, a whole system; give it as --weights instead")
    return vggt_of(tensors, path, config)


def vggt_of(tensors: Mapping[str, Tensor], where: Path, config: VGGTConfig | None = None) -> VGGT:
    """The frozen VGGT of a checkpoint's tensors; errors as in `load_official`."""
    sizes = config or VGGTConfig()
    if not any(name.startswith("point_head.") for name in tensors):
        sizes = replace(sizes, enable_point=False)
    with unfilled():
        model = VGGT(sizes)
    dropped = [DROPPED_PREFIX]
    dropped += [f"{name}." for name in ("point_head", "depth_head") if getattr(model, name) is None]
    adopt_state(model, {k: v for k, v in tensors.items() if not k.startswith(tuple(dropped))}, where)
    return model.freeze()


def find_official(source: str | Path, *, typed: bool = True) -> Path:
    """Local path of the weights file; arguments and errors as in `load_official`."""
    kind = path_kind(source)
    if kind in ("file", "folder"):
        return find_checkpoint(Path(source))
    if isinstance(source, Path) or not is_hub_id(source):
        raise UserError(f"no VGGT weights at {shown(source)}; give a file, a folder or a hub id like facebook/VGGT-1B")
    if not typed:
        raise not_typed("encoder", source, "--encoder ID (Python: load_model(..., encoder=ID)), or a folder")
    folder = hub_folder(source, list(WEIGHT_FILES))
    if not any(folder.glob(WEIGHT_FILES[0])):
        raise UserError(f"the hub's '{source}' holds no model.safetensors; check the id, or give a local file")
    return find_checkpoint(folder)
