"""Loading of the published IGGT checkpoint: a pickled state dict, read as tensors alone, never as code."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.checkpoint import load_state_strict
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.io.hub import hub_folder
from tokengroups.reading import check_file, path_kind, shown
from tokengroups.systems.iggt.iggt import IGGT, IGGTConfig

HUB_ID, FILE_NAME = "lifuguan/IGGT_official", "iggt_checkpoint.pth"
SIZE, SHA256 = 5_198_776_140, "2e165f7d18b64de1a6e18ce0022f2ada034faaaae007cd3e9a4a15eccf4644d2"
LICENCE = "IGGT's weights derive from VGGT-1B (CC BY-NC 4.0): for non-commercial research"
_PREFIX = "module."  # of a data-parallel wrapper
_BRANCH = ("point_head.", "part_adaptor.", "part_head.")
_DROPPED = "track_head."
_BLOCK = 2**24
_DAMAGED = "damaged or truncated, or no PyTorch checkpoint; get the file again"
# A part of the names that only one kind of checkpoint has, and what to do with that kind.
_OTHERS = {"semantic_head.": "a SegVGGT checkpoint", "aggregator.": "VGGT weights without IGGT's instance branch"}


def is_published(source: str | Path) -> bool:
    """True for the hub id, a ``.pth`` or ``.pt`` file, there or not, and a folder with the published file."""
    path, kind = Path(source), path_kind(source)
    if kind == "folder":
        return path_kind(path / FILE_NAME) == "file"
    return path.suffix.lower() in (".pth", ".pt") or (kind == "missing" and str(source) == HUB_ID)


def load_published(source: str | Path, encoder: VGGTConfig | None = None, config: IGGTConfig | None = None) -> IGGT:
    """Load IGGT with a published checkpoint, frozen, in float32, mapped from the file.

    Args:
        source: The file, a folder that holds it, or the hub id, which is looked up in the hub's cache, then downloaded.
        encoder: Sizes of the VGGT; VGGT-1B if not given.
        config: Shape of the branch; the published one if not given.

    Raises:
        UserError: No such file, a damaged one, or the checkpoint of another model; one line says which.
    """
    path = _find(source)
    _check_digest(path, from_hub=path_kind(source) == "missing")
    tensors = _read(path)
    sizes = replace(encoder or VGGTConfig(), enable_point=False)
    with torch.device("meta"):
        system = IGGT(VGGT(sizes), config or IGGTConfig())
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(_DROPPED)}
    branch = {name: tensor for name, tensor in kept.items() if name.startswith(_BRANCH)}
    _check_kind(path, kept)
    load_state_strict(system.branch, branch, path, assign=True)
    rest = {name: tensor for name, tensor in kept.items() if name not in branch}
    assert isinstance(system.encoder, VGGT)
    load_state_strict(system.encoder, rest, path, assign=True)
    system.encoder.freeze()
    system.encoder_source, system.licence = str(source), LICENCE
    return system.requires_grad_(False).eval()  # pyright: ignore[reportReturnType] # returns itself


def _find(source: str | Path) -> Path:
    path, kind = Path(source), path_kind(source)
    if kind == "folder":
        return check_file(path / FILE_NAME, "download it from the model's page into this folder")
    if kind == "missing" and str(source) == HUB_ID:
        path = hub_folder(HUB_ID, [FILE_NAME]) / FILE_NAME
    return check_file(path, f"give {FILE_NAME}, its folder, or the hub id {HUB_ID}")


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by their names without the wrapper's prefix; nothing in the file is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, so it may run code; give a checkpoint of tensors"
        raise UserError(f"{shown(path)}: {what if 'unsupported GLOBAL' in str(error) else _DAMAGED}") from None
    except Exception as error:  # whatever a damaged pickle makes of its reader
        raise UserError(f"{shown(path)}: {_DAMAGED}") from error
    tensors = content if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()):
        raise UserError(f"{shown(path)}: no state dict (a mapping of names to tensors); give {FILE_NAME}")
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}


def _check_digest(path: Path, from_hub: bool) -> None:
    """Refuse a download of another size, and a file of the published size with other content."""
    size = path.stat().st_size
    if size != SIZE and not from_hub:
        return  # weights of somebody's own; their names and shapes are compared
    if size != SIZE:
        raise UserError(f"{shown(path)}: {size:,} bytes instead of the published {SIZE:,}; get the file again")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise UserError(f"{shown(path)}: of the published size, but its SHA-256 is another one; get the file again")


def _check_kind(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Say what the file is if it is something else."""
    parts = [part for part in _BRANCH if any(name.startswith(part) for name in tensors)]
    if len(parts) == len(_BRANCH):
        return
    found = next((what for part, what in _OTHERS.items() if any(n.startswith(part) for n in tensors)), None)
    if found is None:
        found = "the checkpoint of another model"
    raise UserError(f"{shown(path)}: {found}; IGGT's has {', '.join(part.rstrip('.') for part in _BRANCH)}")
