"""Curation of scans: the ids that a scan's mesh projects into its photos, sharpened by a segmenter.

A scan is a folder with photos (``color`` or ``images``) and maps of ids, 0 = none: ``instance-filt/N.png`` (ScanNet's),
``obj_ids/PHOTO.pth`` (ScanNet++'s toolkit), or ``obj_ids/`` and ``ids/`` with ``.npy`` or ``.png``.
"""

from __future__ import annotations

import codecs
import json
import math
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from tokengroups.data.curation.base import Photo, Progress, Proposer, plain
from tokengroups.data.curation.matching import MatchSettings, refine_ids
from tokengroups.data.readers.insscene_files import read_array
from tokengroups.errors import UserError
from tokengroups.io.files import natural_key, staged_folder, write_text
from tokengroups.io.images import decode_photo, find_photos
from tokengroups.io.pixels import read_pixels, resize_nearest, resize_photo, write_pixels
from tokengroups.reading import check_file, malformed, shown

_PHOTOS, _IDS = ("color", "images"), ("instance-filt", "obj_ids", "ids")
_SUFFIXES = (".png", ".npy", ".pth")
_ADVICE = "project the ids again"
_KINDS = ("int16", "int32", "int64", "uint8", "uint16", "uint32")
_SAME_ASPECT = 0.02
MOST_IDS = 65535
SUMMARY = "curation.json"


@dataclass(frozen=True)
class ScanSettings:
    """Settings of the curation of scans."""

    min_stability: float = 0.5  # of a proposal
    matching: MatchSettings = MatchSettings()


@dataclass(frozen=True)
class Scan:
    """Photos of a scan that have a map of ids."""

    folder: Path
    pairs: tuple[tuple[Path, Path], ...]  # photo and ids
    without: tuple[str, ...]  # photos that have no ids

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.resolve().name


def find_scans(root: Path) -> list[Scan]:
    """Scans in a folder, or the folder itself, in order of their names; those without a map of ids are none."""
    folders = [root, *sorted((path for path in root.glob("[!.]*") if path.is_dir()), key=lambda p: natural_key(p.name))]
    return [scan for scan in map(_open_scan, folders) if scan is not None]


def _open_scan(folder: Path) -> Scan | None:
    photos = next((folder / name for name in _PHOTOS if (folder / name).is_dir()), None)
    maps = next((folder / name for name in _IDS if (folder / name).is_dir()), None)
    if photos is None or maps is None:
        return None
    pairs, without = [], []
    for photo in find_photos([photos]):
        names = [stem + suffix for suffix in _SUFFIXES for stem in (photo.name, photo.stem)]
        found = next((maps / name for name in names if (maps / name).is_file()), None)
        if found is None:
            without.append(photo.name)
        else:
            pairs.append((photo, found))
    if not pairs:
        raise UserError(f"{maps}: no map of ids for any of the {len(without)} photos, such as {without[0]}; {_ADVICE}")
    return Scan(folder, tuple(pairs), tuple(without))


def curate_scan(
    scan: Scan, out: Path, proposer: Proposer, settings: ScanSettings | None = None, progress: Progress = plain
) -> dict[str, Any]:
    """Sharpen the ids of a scan and write them as InsScene-15K has them; the folder is complete or not there.

    For every photo, ``refined_ins_ids/STEM.png`` (uint16) has the size of the map of ids, ``PHOTO.npy`` that of
    the photo. ``curation.json`` has the statistics and settings.

    Returns:
        Statistics: frames, ids by rule, the mean share of pixels without an id before and after.
    """
    settings = settings or ScanSettings()
    rules: dict[str, int] = {}
    empty = np.zeros(2)
    with staged_folder(out) as staging:
        folder = staging / "refined_ins_ids"
        folder.mkdir()
        for photo_path, ids_path in progress(scan.pairs, len(scan.pairs), scan.name):
            photo, projected = np.array(decode_photo(photo_path, upright=False)[0]), read_ids(ids_path)
            _check_shape(ids_path, projected, photo)
            resized = resize_photo(photo, (projected.shape[0], projected.shape[1]))
            masks = [proposal.mask for proposal in proposer.propose(resized, settings.min_stability, 0)]
            refined = refine_ids(projected, masks, settings.matching)
            rules = {name: rules.get(name, 0) + count for name, count in refined.rules.items()}
            empty += [(projected == 0).mean(), (refined.ids == 0).mean()]
            write_pixels(folder / f"{photo_path.stem}.png", refined.ids.astype(np.uint16))
            at_photo = resize_nearest(refined.ids, (photo.shape[0], photo.shape[1]))
            np.save(folder / f"{photo_path.name}.npy", at_photo.astype(np.uint16).view(np.int16))
        before, after = (empty / len(scan.pairs)).round(6).tolist()
        facts = {"frames": len(scan.pairs), "rules": rules, "without_id_before": before, "without_id": after}
        write_text(staging / SUMMARY, json.dumps(facts | {"settings": asdict(settings)}, indent=1) + "\n")
    return facts


def read_ids(path: Path) -> Int64[np.ndarray, "H W"]:
    """Map of ids; 0 = none, as are negative numbers.

    Raises:
        UserError: It cannot be read, is no map of whole numbers, or has an id that 16 bits do not hold.
    """
    if path.suffix == ".png":
        ids = read_pixels(path)
    elif path.suffix == ".npy":
        ids = read_array(path, _ADVICE)
    else:
        ids = _read_tensor(path)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise UserError(f"{path}: no map of ids, but {ids.dtype} {list(ids.shape)}; {_ADVICE}")
    if ids.max() > MOST_IDS:
        raise UserError(f"{path}: id {ids.max()}, but files of ids hold at most {MOST_IDS}; number the objects anew")
    return ids.astype(np.int64).clip(min=0)


def _read_tensor(path: Path) -> np.ndarray:
    """Tensor or array that ScanNet++'s toolkit has saved; no code in the file is run."""
    import torch

    try:
        with malformed(path, _ADVICE), torch.serialization.safe_globals(_array_parts()):
            return np.asarray(torch.load(check_file(path), map_location="cpu", weights_only=True))
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a saved tensor ({shown(error)}); {_ADVICE}") from error


def _array_parts() -> list[Any]:
    """What a pickled array of whole numbers is made of, by NumPy's old and new names."""
    rebuild = np.empty(0).__reduce__()[0]
    names = (f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core"))
    types = (type(np.dtype(kind)) for kind in _KINDS)
    return [np.ndarray, np.dtype, (codecs.encode, "_codecs.encode"), *((rebuild, name) for name in names), *types]


def _check_shape(path: Path, ids: np.ndarray, photo: Photo) -> None:
    """Refuse a map of ids of another shape than its photo."""
    (height, width), (rows, columns) = photo.shape[:2], ids.shape
    if abs(math.log(rows * width / (columns * height))) > _SAME_ASPECT:
        raise UserError(f"{path}: {columns}x{rows} pixels, another shape than its photo's {width}x{height}; {_ADVICE}")
