"""Loading of the published IGGT checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from tokengroups.checkpoint import adopt_state, map_checkpoint
from tokengroups.encoders.published import LICENCES
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.nn.limits import unfilled
from tokengroups.reading import path_kind, shown
from tokengroups.systems.iggt.iggt import IGGT, IGGTConfig
from tokengroups.systems.published import RELEASES, check_kind

RELEASE = RELEASES["IGGT"]
HUB_ID, FILE_NAME = RELEASE.hub_id, RELEASE.files[0]
SIZE, SHA256 = 5_198_776_140, "2e165f7d18b64de1a6e18ce0022f2ada034faaaae007cd3e9a4a15eccf4644d2"
LICENCE = LICENCES["IGGT"]
_BRANCH = ("point_head.", "part_adaptor.", "part_head.")
_DROPPED = "track_head."
_BLOCK = 2**24


def load_published(source: str | Path, encoder: VGGTConfig | None = None, config: IGGTConfig | None = None) -> IGGT:
    """Load IGGT with a published checkpoint, frozen, mapped from the file.

    Args:
        source: The file, a folder that holds it, or the hub id, which is looked up in the hub's cache, then downloaded.
        encoder: Sizes of the VGGT; VGGT-1B if not given.
        config: Shape of the branch; the published one if not given.

    Raises:
        UserError: No such file, a damaged one, or the checkpoint of another model; one line says which.
    """
    path = RELEASE.find(source)
    _check_digest(path, from_hub=path_kind(source) == "missing")
    tensors = map_checkpoint(path)
    sizes = replace(encoder or VGGTConfig(), enable_point=False)
    with unfilled():
        system = IGGT(VGGT(sizes), config or IGGTConfig())
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(_DROPPED)}
    branch = {name: tensor for name, tensor in kept.items() if name.startswith(_BRANCH)}
    check_kind(path, kept, "IGGT", _BRANCH)
    adopt_state(system.branch, branch, path)
    rest = {name: tensor for name, tensor in kept.items() if name not in branch}
    assert isinstance(system.encoder, VGGT)
    adopt_state(system.encoder, rest, path)
    system.encoder.freeze()
    system.encoder_source, system.licence = str(source), LICENCE
    return system.requires_grad_(False).eval()  # pyright: ignore[reportReturnType] # returns itself


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
