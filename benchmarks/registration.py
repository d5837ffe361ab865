"""How well registration scores tell photos that are off from those in place, on rooms, walks and real photos.

    python benchmarks/registration.py --rooms 24 [--cache ROOMS] [--real DIR]

Rooms: eight photos, of which none to three are of another room. Walks: eight neighbouring or every second frame of a
camera that turns by 270 degrees. Real: a folder with `scannet_pairs/pairs_with_gt.txt` (two photos a line with their
relative pose) and `rgbd_*/*` in ScanNet's layout. A photo is off if it is turned against the best-connected one by more
than 15 degrees, in place below 5; photos of another room are off, and the best-connected photo does not count. The
threshold is chosen on every second scene of rooms and walks, and shares are printed for the others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokengroups.data.base import open_dataset
from tokengroups.io.images import load_photos
from tokengroups.postprocess import build_steps, choose_steps, run_steps
from tokengroups.postprocess.registration import REGISTERED, compare_photos, registrations
from tokengroups.systems import SceneSystem, load_model

OFF_DEGREES, IN_PLACE_DEGREES = 15.0, 5.0
PHOTOS = 8
MOST_FOREIGN = 3
THRESHOLDS = tuple(round(0.02 + 0.01 * index, 2) for index in range(15))


@dataclass(frozen=True)
class Scene:
    """Photos with their true poses."""

    kind: str
    images: Tensor  # [V, 3, H, W]
    cam_from_world: np.ndarray  # [V, 4, 4]
    foreign: np.ndarray  # [V]: of another room
    mask: Tensor | None = None
    full_images: Tensor | None = None


@dataclass(frozen=True)
class Scored:
    """Numbers of pairs, and how far photos are off, in degrees."""

    kind: str
    numbers: Tensor
    degrees: np.ndarray  # [V]; NaN for the best-connected photo, with which the others are compared

    def flags(self, threshold: float) -> np.ndarray:
        """Which photos do not register."""
        return np.array([not each.registered for each in registrations(self.numbers, threshold)])


def rooms(count: int, cache: str | None) -> Iterator[Scene]:
    """Rooms with foreign photos, and walks, in turn."""
    options = {"seeds": [31], "num_rooms": 2 * count}
    centred, around = (
        open_dataset("procedural", cache, num_frames=17, options={**options, "gaze": gaze})
        for gaze in ("centre", "around")
    )
    rng = np.random.default_rng(0)
    for index in range(count):
        frames, other = centred[index][0:16:2], centred[count + index][0:16:2]
        foreign = np.zeros(PHOTOS, bool)
        foreign[rng.choice(PHOTOS, rng.integers(MOST_FOREIGN + 1), replace=False)] = True
        mixed = np.where(foreign[:, None, None, None], other.images, frames.images)
        yield Scene("rooms", _tensor(mixed), frames.cam_from_world, foreign)
        step = 1 + index % 2
        walk = around[index][0 : PHOTOS * step : step]
        yield Scene("walks", _tensor(walk.images), walk.cam_from_world, np.zeros(PHOTOS, bool))


def real_scenes(root: Path, size: int, multiple: int) -> Iterator[Scene]:
    """Pairs of ScanNet's photos, and stretches of recordings."""
    pairs = root / "scannet_pairs" / "pairs_with_gt.txt"
    for line in pairs.read_text().splitlines() if pairs.is_file() else []:
        words = line.split()
        poses = np.stack([np.eye(4), np.array(words[-16:], float).reshape(4, 4)])
        yield _loaded("pairs", [pairs.parent / name for name in words[:2]], poses, size, multiple)
    for folder in sorted(root.glob("rgbd_*/*")):
        files = sorted((folder / "color").glob("*.jpg"), key=lambda path: int(path.stem))[:PHOTOS]
        poses = [np.linalg.inv(np.loadtxt(folder / "pose" / f"{path.stem}.txt")) for path in files]
        yield _loaded("stretches", files, np.stack(poses), size, multiple)


def _loaded(kind: str, files: list[Path], poses: np.ndarray, size: int, multiple: int) -> Scene:
    photos = load_photos(files, size, patch_size=multiple)
    return Scene(kind, photos.images, poses, np.zeros(len(files), bool), photos.mask, photos.full_images)


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def score(model: SceneSystem, scene: Scene) -> Scored:
    steps = choose_steps("bundle_adjustment", model.steps) or build_steps(["bundle_adjustment"], "benchmark")
    draft = run_steps(
        model.begin(scene.images, None, steps, None, scene.mask, scene.full_images), steps, "before_decoding"
    )
    found = draft.geometry.cameras.cam_from_world.double().numpy()
    return Scored(scene.kind, compare_photos(draft.photos, draft.geometry), degrees_off(found, scene))


def degrees_off(found: np.ndarray, scene: Scene) -> np.ndarray:
    """Angles between predicted and true rotations relative to the photo that has most others in place."""
    relative = [
        poses[:, None, :3, :3] @ poses[None, :, :3, :3].swapaxes(-1, -2) for poses in (found, scene.cam_from_world)
    ]
    traces = np.einsum("uvij,uvij->uv", *relative)
    degrees = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    degrees[scene.foreign] = degrees[:, scene.foreign] = 180.0
    best = int((degrees < IN_PLACE_DEGREES).sum(axis=1).argmax())
    off = degrees[best].copy()
    off[best] = np.nan
    return off


def shares(scenes: list[Scored], threshold: float) -> dict[str, float | int | None]:
    """Share of photos flagged among those off and among those in place, with their numbers."""
    flags = np.concatenate([scene.flags(threshold) for scene in scenes])
    degrees = np.concatenate([scene.degrees for scene in scenes])
    off, good = degrees > OFF_DEGREES, degrees < IN_PLACE_DEGREES
    return {
        "flagged_share_bad": round(float(flags[off].mean()), 3) if off.any() else None,
        "flagged_share_good": round(float(flags[good].mean()), 3) if good.any() else None,
        "num_bad": int(off.sum()),
        "num_good": int(good.sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=24, help="rooms, and as many walks (%(default)s)")
    parser.add_argument("--cache", help="folder that keeps the rooms")
    parser.add_argument("--real", type=Path, help="folder of real photos with true poses")
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--json", type=Path, help="also write the results here")
    args = parser.parse_args()
    model = load_model(args.weights)
    made = [score(model, scene) for scene in rooms(args.rooms, args.cache)]
    real = [] if args.real is None else real_scenes(args.real, model.image_size, model.size_multiple)
    found = [score(model, scene) for scene in real]
    chosen = [scene for index, scene in enumerate(made) if index // 2 % 4 < 2]  # rooms, and walks of either step
    held_out = [scene for index, scene in enumerate(made) if index // 2 % 4 >= 2]
    result: dict[str, object] = {"threshold": REGISTERED, "chosen_on": {}}
    for threshold in THRESHOLDS:
        result["chosen_on"][threshold] = numbers = shares(chosen, threshold)  # pyright: ignore[reportIndexIssue]
        print(f"threshold {threshold:.2f} on the first half: {numbers}")
    groups = {"held out": held_out, **{kind: [s for s in held_out + found if s.kind == kind] for kind in KINDS}}
    for name, scenes in groups.items():
        if scenes:
            result[name] = numbers = shares(scenes, REGISTERED)
            print(f"{name}, threshold {REGISTERED}: {numbers}")
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


KINDS = ("rooms", "walks", "pairs", "stretches")

if __name__ == "__main__":
    main()
