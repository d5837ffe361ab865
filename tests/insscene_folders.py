"""Small folders in InsScene-15K's layout, with files of the exact names, types and orders of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tokengroups.data.instance_masks import encode_rle
from tokengroups.io.pixels import write_pixels
from tokengroups.types import SceneFrames

SCANNETPP, INFINIGEN, RE10K = "processed_scannetpp_v2", "processed_infinigen", "processed_re10k"
HIDDEN = 3  # Infinigen: this id belongs to a light


def write_scannetpp(root: Path, name: str, frames: SceneFrames, dslr_rows: int = 2) -> Path:
    """A scan whose frames are named from 8 on, so that 8, 9, 10 and their DSLR rows are in the real order."""
    scene = root / SCANNETPP / name
    for folder in ("images", "depth", "refined_ins_ids"):
        (scene / folder).mkdir(parents=True)
    names = [f"DSC{7000 + row:05d}.JPG" for row in range(dslr_rows)]
    for view in range(len(frames)):
        stem = f"frame_{8 + view:06d}"
        names.append(f"{stem}.jpg")
        write_pixels(scene / "images" / f"{stem}.jpg", frames.images[view])
        write_pixels(scene / "depth" / f"{stem}.png", (frames.depth[view] * 1000).round().astype(np.uint16))
        ids = (frames.group_ids[view] + 1).astype(np.uint16)
        np.save(scene / "refined_ins_ids" / f"{stem}.jpg.npy", ids.view(np.int16))
        write_pixels(scene / "refined_ins_ids" / f"{stem}.png", np.kron(ids, np.ones((2, 2), np.uint16)))
    poses = np.concatenate([np.tile(np.eye(4) * 2, (dslr_rows, 1, 1)), np.linalg.inv(frames.cam_from_world)])
    pinholes = np.concatenate([np.tile(np.eye(3), (dslr_rows, 1, 1)), frames.intrinsics])
    pinholes[dslr_rows:, :2, 2] -= 0.5  # the first pixel's centre is (0, 0)
    np.savez(scene / "scene_iphone_metadata.npz", images=names, trajectories=poses, intrinsics=pinholes)
    return scene


def write_infinigen(root: Path, house: str, sub: str, frames: SceneFrames) -> Path:
    """Views with numbers 9, 10, ...; ids from 1 on, and a light's id that the segmentation shows too."""
    scene = root / INFINIGEN / house / sub
    for kind in ("Image", "Depth", "ObjectSegmentation", "Objects", "camview"):
        (scene / "frames" / kind / "camera_0").mkdir(parents=True)

    def file(kind: str, view: int, suffix: str) -> Path:
        return scene / "frames" / kind / "camera_0" / f"{kind}_{9 + view}_0001_0.{suffix}"

    for view in range(len(frames)):
        write_pixels(file("Image", view, "png"), frames.images[view])
        depth = frames.depth[view].astype(np.float32)
        np.save(file("Depth", view, "npy"), depth)
        np.save(file("ObjectSegmentation", view, "npy"), frames.group_ids[view].astype(np.int64) + 1)
        objects = {}
        for index, name in frames.instance_classes.items():
            if index + 1 != HIDDEN:
                factory = f"{name.title().replace(' ', '')}Factory({index}).spawn_asset(0)"
                objects[factory] = {"type": "MESH", "object_index": index + 1}
        objects |= {"living-room_0/0.wall": {"type": "MESH", "object_index": 1000}}
        objects |= {"PointLight": {"type": "LIGHT", "object_index": HIDDEN}}
        file("Objects", view, "json").write_text(json.dumps(objects))
        pose = np.linalg.inv(frames.cam_from_world[view])
        np.savez(file("camview", view, "npz"), K=frames.intrinsics[view], T=pose)
    return scene


def write_re10k(root: Path, name: str, frames: SceneFrames, first: int = 99_800_000, step: int = 100_000) -> Path:
    """A clip whose times have 8, then 9 digits; masks of instances, and one of the whole picture, which is object 0."""
    scene = root / RE10K / name
    for folder in (scene / "rgb", scene / "cam", root / "sam2_results" / name):
        folder.mkdir(parents=True)
    masklet = []
    instances = np.unique(frames.group_ids[frames.group_ids >= 0]).tolist()
    for view in range(len(frames)):
        stem = str(first + view * step)
        write_pixels(scene / "rgb" / f"{stem}.png", frames.images[view])
        np.savez(
            scene / "cam" / f"{stem}.npz",
            pose=np.linalg.inv(frames.cam_from_world[view]),
            intrinsics=frames.intrinsics[view],
        )
        ids = frames.group_ids[view]
        masklet.append(
            [encode_rle(mask) for mask in (np.ones_like(ids, bool), *(ids == number for number in instances))]
        )
    height, width = frames.images.shape[1:3]
    content = {
        "video_frame_count": len(frames), "video_height": height, "video_width": width, "masklet_num": len(frames),
        "masklet_id": list(range(len(instances) + 1)), "masklet_type": ["auto"] * (len(instances) + 1),
        "masklet": masklet,
    }  # fmt: skip
    (root / "sam2_results" / name / "auto_masks.json").write_text(json.dumps(content))
    return scene
