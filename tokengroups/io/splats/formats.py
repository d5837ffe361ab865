"""Which format a file of splats has, by its beginning where the format has one, and else by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.splats.compressed_ply import load_compressed_ply
from tokengroups.io.splats.ksplat import load_ksplat
from tokengroups.io.splats.sog import META, is_sog_meta, load_sog
from tokengroups.io.splats.splat import load_splat
from tokengroups.io.splats.spz import GZIP, MAGIC, load_spz
from tokengroups.reading import shown
from tokengroups.types import Gaussians

Load = Callable[[Path], Gaussians]
FORMATS: dict[str, Load] = {".splat": load_splat, ".ksplat": load_ksplat, ".spz": load_spz, ".sog": load_sog}
_HEADER_BYTES = 2**16  # of a PLY, at most
GLTF = b"glTF"
_BEGINNINGS: dict[bytes, Load] = {GZIP: load_spz, MAGIC: load_spz, b"PK\x03\x04": load_sog}


def find_format(path: Path) -> Load | None:
    """The reader of a packed file; None for a plain PLY, and for what can only be a broken one.

    Raises:
        UserError: The file cannot be read, or is glTF.
    """
    if path.name == META and is_sog_meta(path):
        return load_sog
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {error.strerror}") from error
    if start.startswith(GLTF):
        raise UserError(f"{shown(path)}: glTF is written, not read; export the scene as .ply or .spz, and import that")
    if start.startswith(b"ply"):
        header, _, _ = start.partition(b"end_header")
        return load_compressed_ply if b"\nelement chunk " in header else None
    return next((load for begin, load in _BEGINNINGS.items() if start.startswith(begin)), None) or FORMATS.get(
        path.suffix.lower()
    )
