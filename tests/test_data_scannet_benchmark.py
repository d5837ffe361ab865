"""ScanNet's official truth and frames from an exact replica of the files, and damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scannet_replica as replica

from tokengroups.data.readers.scannet_benchmark import ScanFrames, photo_size, read_truth
from tokengroups.errors import UserError
from tokengroups.io.pixels import read_pixels, write_pixels


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return replica.write_replica(tmp_path)


def test_truth_is_that_of_the_files(scan: Path) -> None:
    truth, (points, owners) = read_truth(scan), replica.points()
    np.testing.assert_array_equal(truth.points, points)
    np.testing.assert_array_equal(truth.instance_ids, owners)
    assert truth.labels == {index: each.label for index, each in enumerate(replica.RECTANGLES)}
    _, first, inverse = np.unique(replica.segments(), return_index=True, return_inverse=True)
    np.testing.assert_array_equal(truth.segments, inverse)
    assert truth.segments.max() == len(first) - 1


def test_a_vertex_of_two_objects_belongs_to_the_last_and_one_of_none_to_none(scan: Path) -> None:
    path = scan / f"{replica.NAME}.aggregation.json"
    content = json.loads(path.read_text())
    wall, chair = content["segGroups"][:2]
    stolen = wall["segments"][0]
    content["segGroups"] = [wall, {**chair, "segments": [*chair["segments"], stolen, 123456]}]
    path.write_text(json.dumps(content))
    truth, owners = read_truth(scan), replica.points()[1]
    expected = np.where(replica.segments() == stolen, 1, np.where(owners > 1, -1, owners))
    np.testing.assert_array_equal(truth.instance_ids, expected)


def test_frames_are_counted_over_all_photos_and_need_a_pose(scan: Path) -> None:
    assert ScanFrames(scan, replica.EVERY).stems == tuple(map(str, replica.USED))
    (scan / "pose" / "2.txt").write_text("-inf -inf -inf -inf\n" * 4)
    (scan / "pose" / "1.txt").unlink()
    frames = ScanFrames(scan, replica.EVERY)
    assert frames.stems == ("0", "10")
    assert ScanFrames(scan, 1).stems == ("0", "3", "10")
    for pose, found in zip((replica.poses()[0], replica.poses()[10]), frames.cam_from_world, strict=True):
        np.testing.assert_allclose(found @ pose, np.eye(4), atol=1e-12)
    np.testing.assert_array_equal(frames.intrinsics, [[52, 0, 31.5], [0, 50, 25], [0, 0, 1]])
    np.testing.assert_allclose(frames.depth(1), replica.see(replica.poses()[10], replica.DEPTH_HW)[0], atol=0.00051)


def test_photos_are_whole_and_resized(scan: Path) -> None:
    photos = ScanFrames(scan, replica.EVERY).photos(80, 16)
    assert photos.shape == (3, 64, 80, 3)
    original = read_pixels(scan / "color" / "2.jpg").astype(float)
    means = [part.mean() for part in np.array_split(original, 4, axis=1)]
    np.testing.assert_allclose([part.mean() for part in np.array_split(photos[1], 4, axis=1)], means, atol=4)


@pytest.mark.parametrize(
    ("size_hw", "side", "multiple", "expected"),
    [((968, 1296), 518, 14, (392, 518)), ((480, 640), 128, 8, (96, 128)), ((640, 480), 128, 16, (128, 96))],
)
def test_photo_sizes(size_hw: tuple[int, int], side: int, multiple: int, expected: tuple[int, int]) -> None:
    assert photo_size(size_hw, side, multiple) == expected


def _edit(suffix: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    def edit(scan: Path) -> None:
        path = scan / f"{replica.NAME}{suffix}"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


SEGS, OBJECTS = "_vh_clean_2.0.010000.segs.json", ".aggregation.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda scan: (scan / f"{replica.NAME}_vh_clean_2.ply").unlink(), r"no file \*_vh_clean_2.ply"),
        (lambda scan: (scan / f"{replica.NAME}{OBJECTS}").unlink(), r"no file \*.aggregation.json"),
        (lambda scan: (scan / f"{replica.NAME}{SEGS}").write_text("{"), "segs.json: not JSON"),
        (lambda scan: (scan / f"x{OBJECTS}").write_text("{}"), r"several files \*.aggregation.json"),
        (_edit(SEGS, lambda content: content["segIndices"].pop()), "1[0-9]+ superpoint numbers for the 1[0-9]+ v"),
        (_edit(SEGS, lambda content: content["segIndices"].__setitem__(5, 2.5)), "not whole or negative"),
        (_edit(SEGS, lambda content: content.pop("segIndices")), "lacks 'segIndices'"),
        (_edit(OBJECTS, lambda content: content["segGroups"][0].pop("objectId")), "lacks 'objectId'"),
        (_edit(OBJECTS, lambda content: content["segGroups"][0].update(objectId=-1)), "not whole or negative"),
        (_edit(OBJECTS, lambda content: [g.update(segments=[1]) for g in content["segGroups"]]), "files of one scan"),
    ],
)  # fmt: skip
def test_damaged_truth_is_one_line(damage: Callable[[Path], object], message: str, scan: Path) -> None:
    damage(scan)
    with pytest.raises(UserError, match=message) as raised:
        read_truth(scan)
    assert "\n" not in str(raised.value)


def test_damaged_frames_are_one_line(scan: Path) -> None:
    frames = ScanFrames(scan, replica.EVERY)
    (scan / "depth" / "2.png").unlink()
    with pytest.raises(UserError, match=r"depth/2.png"):
        frames.depth(1)
    write_pixels(scan / "color" / "2.jpg", np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(UserError, match=r"color/2: size \(40, 50\) is not that of the first, \(121, 162\)"):
        frames.photos(64, 16)
    (scan / "intrinsic" / "intrinsic_depth.txt").write_text("0 " * 16)
    with pytest.raises(UserError, match="focal lengths"):
        _ = frames.intrinsics
    (scan / "pose" / "0.txt").write_text("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1")
    with pytest.raises(UserError, match="not a rotation"):
        ScanFrames(scan, 1)
    for pose in (scan / "pose").iterdir():
        pose.write_text("-inf " * 16)
    with pytest.raises(UserError, match="no frame with a camera pose"):
        ScanFrames(scan, 1)
