"""Import from and export to 3DGS PLY, on real files and on random scenes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import random_scene
from tolerances import tolerance

from tokengroups.errors import UserError
from tokengroups.gaussians import covariances, select
from tokengroups.io.ply import load_ply, read_vertices, save_ply, write_vertices
from tokengroups.scene import export_groups, export_scene, import_scene
from tokengroups.scene.groups import column_of, gaussian_columns, gaussian_mask
from tokengroups.types import TokenScene

REAL = Path(__file__).parent / "data" / "instok3d"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REAL, tmp_path / "splat"))


def test_real_folder_is_read_with_its_ids_and_anchors(real: Path) -> None:
    imported = import_scene(real)
    scene = imported.scene
    assert scene.group_ids.tolist() == [6, 11, 40]
    assert scene.anchors.shape == (11, 3) and scene.gaussians.means.shape == (352, 3)
    assert torch.equal(scene.anchor_ids, torch.arange(11).repeat_interleave(32))
    assert torch.equal(
        scene.assignment.sum(dim=1), torch.ones(11)
    ) and scene.assignment.unique().tolist() == [0, 1]
    assert torch.equal(scene.gaussians.means[-32:], load_ply(real / "tok_13.ply").means)
    assert len(imported.notes) == 1 and "no cameras.json: one camera at the origin" in imported.notes[0]
    torch.testing.assert_close(scene.anchors[0], scene.gaussians.means[:32].mean(dim=0))


def test_folder_above_its_only_ply_folder_works(real: Path) -> None:
    assert import_scene(real.parent).scene.group_ids.tolist() == [6, 11, 40]


def test_real_groups_exported_again_are_the_same_files(real: Path, tmp_path: Path) -> None:
    """All values bit by bit, but the logits' last bits, which a float32 opacity cannot hold."""
    export_groups(import_scene(real).scene, tmp_path / "out")
    for ours, theirs in [("group_006", "tok_08"), ("group_011", "tok_11"), ("group_040", "tok_13")]:
        after, before = read_vertices(tmp_path / "out" / f"{ours}.ply"), read_vertices(real / f"{theirs}.ply")
        assert after.dtype == before.dtype
        for name in before.dtype.names or ():
            if name != "opacity":
                assert np.array_equal(after[name], before[name])
        assert np.abs(after["opacity"] - before["opacity"]).max() < 5e-7


def test_a_second_trip_changes_nothing_more(real: Path, tmp_path: Path) -> None:
    first = import_scene(real).scene
    export_groups(first, tmp_path / "one")
    second = import_scene(tmp_path / "one").scene
    export_groups(second, tmp_path / "two")
    for name in ("group_006.ply", "group_011.ply", "group_040.ply", "groups.json", "cameras.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert torch.equal(first.gaussians.opacities, second.gaussians.opacities)


def uneven_scene() -> TokenScene:
    """Random scene whose anchors have different numbers of Gaussians, in no order."""
    scene = random_scene(degree=2)
    kept = torch.randperm(24)[:20]
    return replace(scene, gaussians=select(scene.gaussians, kept), anchor_ids=scene.anchor_ids[kept])


@pytest.mark.parametrize("make", [random_scene, uneven_scene])
@pytest.mark.parametrize("as_groups", [False, True])
def test_exported_scene_comes_back_with_groups_anchors_names_and_cameras(
    make: type, as_groups: bool, tmp_path: Path
) -> None:
    scene = make()
    if as_groups:
        files, source = export_groups(scene, tmp_path / "out"), tmp_path / "out"
        assert len(files) == 5
    else:
        files, source = export_scene(scene, tmp_path / "scene.ply"), tmp_path / "scene.ply"
        assert [path.name for path in files] == ["scene.ply", "groups.json", "cameras.json"]
    imported = import_scene(source)
    again = imported.scene
    assert imported.notes == ()
    assert torch.equal(again.group_ids, scene.group_ids) and again.group_names == scene.group_names
    assert torch.equal(again.cameras.cam_from_world, scene.cameras.cam_from_world)
    assert again.cameras.size_hw == scene.cameras.size_hw
    order = torch.argsort(gaussian_columns(scene) * 100 + scene.anchor_ids, stable=True)
    expected = select(scene.gaussians, order)
    assert torch.equal(again.gaussians.means, expected.means) and torch.equal(again.gaussians.sh, expected.sh)
    torch.testing.assert_close(covariances(again.gaussians), covariances(expected), **tolerance("float32"))
    owners = [scene.anchor_ids[order] == k for k in scene.anchor_ids[order].unique_consecutive()]
    ours = [again.anchor_ids == k for k in again.anchor_ids.unique_consecutive()]
    assert all(torch.equal(a, b) for a, b in zip(owners, ours, strict=True))


def test_group_sidecar_says_where_groups_are(tmp_path: Path) -> None:
    scene = random_scene()
    export_scene(scene, tmp_path / "scene.ply")
    content = json.loads((tmp_path / "groups.json").read_text())
    whole = load_ply(tmp_path / "scene.ply")
    for entry in content["groups"]:
        column = column_of(scene, entry["id"])
        part = whole.means[entry["first"] : entry["first"] + entry["count"]]
        mine = scene.gaussians.means[gaussian_mask(scene, column)]
        assert torch.equal(part.sort(dim=0).values, mine.sort(dim=0).values)
        assert entry["name"] == f"thing {column}" and entry["file"] == "scene.ply"


def test_folder_without_sidecars_has_one_group_per_file(real: Path) -> None:
    (real / "meta.json").unlink()
    scene = import_scene(real).scene
    assert scene.group_ids.tolist() == [0, 1, 2]
    assert scene.group_names == ("tok_08", "tok_11", "tok_13") and len(scene.anchors) == 3


def test_single_file_takes_its_group_from_the_sidecar(real: Path) -> None:
    assert import_scene(real / "tok_11.ply").scene.group_ids.tolist() == [11]
    (real / "meta.json").write_text('{"written by": "another program"}')
    assert import_scene(real / "tok_11.ply").scene.group_ids.tolist() == [0]


def test_sh_degrees_may_differ_between_files(real: Path) -> None:
    (real / "meta.json").unlink()
    save_ply(real / "more.ply", random_scene(degree=3).gaussians)
    scene = import_scene(real).scene
    assert scene.gaussians.sh.shape[1] == 16 and len(scene.group_ids) == 4


def test_camera_options_are_kept(real: Path) -> None:
    cameras = import_scene(real, fov_degrees=90.0, size=100).scene.cameras
    assert cameras.size_hw == (100, 100) and float(cameras.intrinsics[0, 0, 0]) == pytest.approx(50)


def test_world_around_the_origin_is_seen_from_outside(tmp_path: Path) -> None:
    gaussians = random_scene().gaussians
    centred = replace(gaussians, means=gaussians.means - gaussians.means.mean(dim=0))
    save_ply(tmp_path / "a.ply", centred)
    imported = import_scene(tmp_path / "a.ply")
    assert "outside of the scene" in imported.notes[0]
    depth = centred.means[:, 2] + imported.scene.cameras.cam_from_world[0, 2, 3]
    assert bool((depth > 0).float().mean() > 0.9)


def test_hundreds_of_cameras_are_thinned_out(tmp_path: Path) -> None:
    scene = random_scene()
    export_scene(scene, tmp_path / "a.ply")
    entries = json.loads((tmp_path / "cameras.json").read_text())
    (tmp_path / "cameras.json").write_text(json.dumps(entries * 50))
    imported = import_scene(tmp_path / "a.ply")
    assert len(imported.scene.cameras.intrinsics) == 16 and "16 of 100 cameras" in imported.notes[0]


def with_invalid(path: Path, rows: slice) -> Path:
    vertices = read_vertices(path).copy()
    vertices["x"][rows] = np.nan
    write_vertices(path, vertices)
    return path


def test_nan_is_refused_with_a_count_or_left_out(real: Path) -> None:
    with_invalid(real / "tok_11.ply", slice(30, 40))
    with pytest.raises(UserError, match=r"tok_11.ply: 10 of 64 Gaussians hold NaN.*--drop-invalid"):
        import_scene(real)
    imported = import_scene(real, drop_invalid=True)
    assert imported.notes[0] == "tok_11.ply: left out 10 invalid Gaussians"
    scene = imported.scene
    assert len(scene.gaussians.means) == 342 and scene.gaussians.means.isfinite().all()
    assert torch.bincount(scene.anchor_ids).tolist() == [32] * 8 + [30, 24, 32]


def test_group_of_nothing_but_nan_disappears(real: Path) -> None:
    with_invalid(real / "tok_11.ply", slice(None))
    assert import_scene(real, drop_invalid=True).scene.group_ids.tolist() == [6, 40]
    with pytest.raises(UserError, match="no valid Gaussian"):
        import_scene(real / "tok_11.ply", drop_invalid=True)


def spoil(folder: Path, change: dict[str, object]) -> None:
    """Overwrite fields of the first group in ``groups.json``."""
    content = json.loads((folder / "groups.json").read_text())
    content["groups"][0] |= change
    (folder / "groups.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"count": 99}, "asks for 99 from number 0"),
        ({"first": -1}, "asks for 8 from number -1"),
        ({"first": "a"}, "damaged group list"),
        ({"id": 5}, "not unique"),
        ({"id": -5}, "not unique numbers from 0"),
        ({"file": "other.ply"}, "should be in other.ply, which is not there"),
        ({"file": "../out/group_002.ply"}, "which is not there"),
        ({"anchor_sizes": 3}, "anchor_sizes of group 2 do not add up to its 8 Gaussians"),
        ({"anchor_sizes": [4, 5]}, "do not add up"),
        ({"anchor_sizes": [8, 0]}, "do not add up"),
        ({"anchor_sizes": {}}, "damaged group list"),
    ],
)
def test_sidecar_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    export_groups(random_scene(), tmp_path / "out")
    spoil(tmp_path / "out", change)
    with pytest.raises(UserError, match=words) as caught:
        import_scene(tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("groups.json", "{", "not JSON"),
        ("groups.json", "[]", "expected a JSON object"),
        ("groups.json", '{"format": "x"}', "not tokengroups.groups version 1"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 2}', "not tokengroups.groups version 1"),
        ("meta.json", '{"instances": [{"file": "tok_08.ply"}]}', "damaged instance list"),
    ],
)
def test_damaged_sidecar_is_refused(real: Path, name: str, content: str, words: str) -> None:
    (real / name).write_text(content)
    with pytest.raises(UserError, match=words):
        import_scene(real)


def test_places_without_ply_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        import_scene(tmp_path / "none")
    with pytest.raises(UserError, match="no .ply file in"):
        import_scene(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(REAL / "tok_13.ply", tmp_path / name)
    with pytest.raises(UserError, match="2 subfolders hold some, e.g. .*a"):
        import_scene(tmp_path)


def test_export_does_not_take_over_another_scenes_sidecars(tmp_path: Path) -> None:
    scene = random_scene()
    export_scene(scene, tmp_path / "one.ply")
    export_scene(scene, tmp_path / "one.ply")  # its own may be replaced
    with pytest.raises(UserError, match=r"groups.json belongs to one.ply; export to another folder"):
        export_scene(scene, tmp_path / "two.ply")
    assert not (tmp_path / "two.ply").exists()
    (tmp_path / "one.ply").unlink()
    export_scene(scene, tmp_path / "two.ply")
    with pytest.raises(UserError, match="there is no folder"):
        export_scene(scene, tmp_path / "missing" / "a.ply")
