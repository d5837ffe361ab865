"""The default on real photos with true poses: pairs, and stretches of RGB-D recordings.

    python benchmarks/real.py --root DIR [--weights NAME|DIR] [--encoder DIR] [--json FILE]

DIR has `scannet_pairs/pairs_with_gt.txt` (two photos and their relative pose a line) and `rgbd_*/*` in ScanNet's
exported layout. Photos are loaded whole, as `reconstruct` loads them; no camera is given. Of a stretch, frames 1 and 3
are the photos and frames 0, 2 and 4 are left out, as in `tokengroups evaluate --views 2`: their central squares are
rendered at 128 and 256 pixels from true cameras, with one scale a scene. `flagged_share_*` are of
`benchmarks/registration.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from registration import Scored, degrees_off, real_scenes, shares
from tqdm import tqdm

from tokengroups.data.augment import to_views
from tokengroups.data.base import open_dataset
from tokengroups.data.example import FramePlan
from tokengroups.evaluation.evaluate import nearest_view_psnr, target_cameras
from tokengroups.evaluation.geometry_metrics import direction_angle_deg, geometry_metrics
from tokengroups.geometry import invert_rigid
from tokengroups.io.images import load_photos
from tokengroups.losses.photometric import psnr, ssim
from tokengroups.postprocess import run_steps
from tokengroups.postprocess.full_photos import resized_cameras
from tokengroups.postprocess.registration import REGISTERED, compare_photos
from tokengroups.render import render
from tokengroups.systems import SceneSystem, load_model
from tokengroups.types import Cameras, Views

PLAN = FramePlan(2)
TARGET_SIZE = 128
FINE_SIZE = 256
AUC_DEGREES = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", default="token_groups_tiny")
    parser.add_argument("--encoder", help="another encoder for the weights")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_model(args.weights, encoder=args.encoder)
    numbers: dict[str, float | int | None] = {}
    scenes = [
        score(model, scene) for scene in tqdm(list(real_scenes(args.root, model.image_size, model.size_multiple)))
    ]
    pairs = [(rotation, direction) for kind, rotation, direction, _ in scenes if kind == "pairs"]
    if pairs:
        numbers["pairs_rotation_median_deg"] = float(np.median([rotation for rotation, _ in pairs]))
        numbers["pairs_auc10"] = area_under_curve([max(each) for each in pairs], AUC_DEGREES)
    rows = [stretch for folder in sorted(args.root.glob("rgbd_*")) for stretch in measure_stretches(model, folder)]
    for name in rows[0] if rows else ():
        middle = np.nanmedian if "rotation" in name else np.nanmean
        numbers[name] = float(middle([row[name] for row in rows]))
    numbers |= shares([scored for *_, scored in scenes], REGISTERED)
    for name, value in numbers.items():
        print(f"{name:28} {value if value is None else round(value, 4)}")
    if args.json is not None:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n")


@torch.no_grad()
def score(model: SceneSystem, scene) -> tuple[str, float, float, Scored]:
    """Kind of a scene, the errors of its second photo's rotation and direction in degrees, and registrations."""
    draft = model.begin(scene.images, None, model.steps, None, scene.mask, scene.full_images)
    draft = run_steps(draft, model.steps, "before_decoding")
    found = draft.geometry.cameras.cam_from_world.double()
    degrees = degrees_off(found.numpy(), scene)
    true = torch.from_numpy(scene.cam_from_world)
    centres = [invert_rigid(poses[1] @ invert_rigid(poses[0]))[:3, 3] for poses in (found, true)]
    scored = Scored(scene.kind, compare_photos(draft.photos, draft.geometry), degrees)
    return scene.kind, float(np.nanmax(degrees)), float(direction_angle_deg(*centres)), scored


def area_under_curve(errors: list[float], limit: float) -> float:
    """Area under the recall of errors up to a limit, over the limit (as for pose errors of SuperGlue)."""
    ordered = np.sort(np.nan_to_num(np.asarray(errors), nan=np.inf))
    recall = np.arange(1, len(ordered) + 1) / len(ordered)
    inside = ordered < limit
    x = np.concatenate([[0.0], ordered[inside], [limit]])
    y = np.concatenate([[0.0], recall[inside], [recall[inside][-1] if inside.any() else 0.0]])
    return float(np.trapezoid(y, x) / limit)


@torch.no_grad()
def measure_stretches(model: SceneSystem, root: Path):
    """Numbers of every stretch of a folder."""
    dataset = open_dataset("scannet", root, num_frames=PLAN.length, size=TARGET_SIZE)
    for index in tqdm(range(len(dataset)), desc=root.name):
        frames = dataset[index][PLAN.span]
        files = sorted((root / frames.name / "color").glob("*"), key=lambda path: int(path.stem))
        photos = load_photos([files[1], files[3]], model.image_size, patch_size=model.size_multiple)
        made = model.predict(photos.images, mask=photos.mask, full_photos=photos.full_images)
        context = at_size(to_views(frames, (1, 3)), (photos.images.shape[-2], photos.images.shape[-1]))
        squares = to_views(frames, (0, 2, 4), TARGET_SIZE)
        cameras, _ = target_cameras(made, context, squares.cameras)
        fine, shown = to_views(frames, (0, 2, 4), FINE_SIZE).images, []
        for each in (cameras, resized_cameras(cameras, (FINE_SIZE, FINE_SIZE))):
            drawn = render(made.scene.gaussians, each.cam_from_world, each.intrinsics, each.size_hw)
            shown.append(drawn.colors.movedim(-1, 1).clamp(0, 1))
        geometry = geometry_metrics(made.depth, made.scene.cameras, context.depth, context.cameras)
        yield {
            "rgbd_psnr": float(psnr(shown[0], squares.images).mean()),
            "rgbd_psnr_256": float(psnr(shown[1], fine).mean()),
            "rgbd_ssim_256": float(ssim(shown[1], fine).mean()),
            "rgbd_psnr_nearest_view": nearest_view_psnr(to_views(frames, (1, 3), TARGET_SIZE), squares),
            "rgbd_absrel": geometry.depth_absrel,
            "rgbd_point_error": geometry.point_error,
            "rgbd_rotation_median_deg": geometry.rotation_error_deg,
        }


def at_size(views: Views, size_hw: tuple[int, int]) -> Views:
    """Whole views with depth at the nearest pixels of another size."""
    own_hw = views.cameras.size_hw
    rows, columns = (((torch.arange(n) + 0.5) * own / n).long() for n, own in zip(size_hw, own_hw, strict=True))
    pixels = (..., rows[:, None], columns)
    scale = torch.tensor([[size_hw[1] / own_hw[1]], [size_hw[0] / own_hw[0]], [1.0]])
    cameras = Cameras(views.cameras.cam_from_world, views.cameras.intrinsics * scale, size_hw)
    return Views(views.images[pixels], cameras, views.depth[pixels], views.group_ids[pixels])


if __name__ == "__main__":
    main()
