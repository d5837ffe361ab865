"""Import from and export to 3DGS PLY, on real files and on random scenes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scenes import random_scene
from splat_files import random_gaussians, sog_files, write_splat
from tolerances import tolerance

from tokengroups.cli.main import main
from tokengroups.errors import UserError
from tokengroups.gaussians import covariances, select
from tokengroups.io.ply import load_ply, read_vertices, save_ply, vertices_from_gaussians, write_vertices
from tokengroups.io.splats.spz import save_spz
from tokengroups.scene import export_groups, export_scene, import_scene, load_scene, render_views, save_scene
from tokengroups.scene.boxes import oriented_box
from tokengroups.scene.groups import GroupLabel, column_of, gaussian_columns, gaussian_mask
from tokengroups.scene.layout import relations, up_direction
from tokengroups.scene.views import visible_shares
from tokengroups.types import Gaussians, TokenScene

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
    assert torch.equal(scene.assignment.sum(dim=1), torch.ones(11)) and scene.assignment.unique().tolist() == [0, 1]
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


def exported_list(scene: TokenScene, folder: Path, *labels: GroupLabel) -> dict:
    """Content of the ``groups.json`` of a scene, labelled from its labels' names."""
    names = [label.name for label in labels]
    export_scene(scene, folder / "scene.ply", labels or None, names or None)
    return json.loads((folder / "groups.json").read_text())


def test_group_list_says_what_and_where_groups_are(tmp_path: Path) -> None:
    scene = random_scene(semantic_dim=6)
    assert scene.semantics is not None
    labels = [GroupLabel("floor", 0.9), GroupLabel("cup", 0.123456789), GroupLabel("vase", 0.4)]
    content = exported_list(scene, tmp_path, *labels)
    assert set(content) == {"format", "version", "up", "text_encoder", "calibration", "vocabulary", "groups"}
    assert content["version"] == 2 and content["text_encoder"] == "words:1"
    assert content["calibration"] == [12.0, 0.5] and content["vocabulary"] == ["floor", "cup", "vase"]
    up, shares = up_direction(scene), visible_shares(scene)
    assert content["up"] == pytest.approx(up.tolist(), abs=1e-5)
    boxes = [oriented_box(scene, column, up) for column in range(3)]
    expected = relations(boxes, [2, 5, 8], ["floor", "thing 1", "thing 2"])  # the vase is not trusted
    for column, entry in enumerate(content["groups"]):
        assert set(entry) == {
            "id", "name", "file", "first", "count", "anchor_sizes", "centre", "size", "color", "label",
            "label_probability", "visible_share", "oriented_box", "relations", "embedding", "score",
        }  # fmt: skip
        assert entry["label"] == labels[column].name
        assert entry["label_probability"] == pytest.approx(labels[column].probability, rel=1e-5)
        assert entry["visible_share"] == pytest.approx(float(shares[column]), rel=1e-5)
        for name in ("centre", "axes", "size"):
            value = torch.tensor(entry["oriented_box"][name], dtype=torch.float64)
            torch.testing.assert_close(value, getattr(boxes[column], name), rtol=1e-5, atol=1e-6)
        assert entry["relations"] == [{"kind": r.kind, "group": r.other} for r in expected if r.group == entry["id"]]
        embedding = scene.semantics.embeddings[column].tolist()
        assert entry["embedding"] == [float(f"{value:.6g}") for value in embedding]


def test_group_list_of_a_scene_without_semantics_says_so(tmp_path: Path) -> None:
    content = exported_list(random_scene(), tmp_path)
    assert [content[name] for name in ("text_encoder", "calibration", "vocabulary")] == [None] * 3
    for entry in content["groups"]:
        assert [entry[name] for name in ("label", "label_probability", "embedding")] == [None] * 3
    with pytest.raises(ValueError, match="1 labels for 3 groups"):
        export_scene(random_scene(), tmp_path / "scene.ply", [GroupLabel("cup", 1.0)])


@pytest.mark.parametrize("as_groups", [False, True])
def test_embeddings_come_back(tmp_path: Path, as_groups: bool) -> None:
    """Equal to the 6 digits that are written; unknown ones stay unknown."""
    scene = random_scene(semantic_dim=6)
    assert scene.semantics is not None
    scene.semantics.embeddings[1] = 0
    export_scene(scene, tmp_path / "scene.ply")
    export_groups(scene, tmp_path / "groups")
    imported = import_scene(tmp_path / "groups" if as_groups else tmp_path / "scene.ply").scene
    again = imported.semantics
    assert again is not None and again.encoder == "words:1"
    torch.testing.assert_close(again.embeddings, scene.semantics.embeddings, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(again.embeddings.norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))
    assert torch.equal(again.calibration, scene.semantics.calibration)
    assert again.residuals.shape == (6, 0) and again.projection.shape == (6, 0)
    save_scene(tmp_path / "again.safetensors", imported)
    part = import_scene(tmp_path / "groups" / "group_008.ply").scene.semantics
    assert part is not None and torch.equal(part.embeddings, again.embeddings[2:])


def test_version_1_is_still_read(tmp_path: Path) -> None:
    content = exported_list(random_scene(semantic_dim=6), tmp_path)
    new = {"label", "label_probability", "visible_share", "oriented_box", "relations", "embedding", "score"}
    groups = [{key: value for key, value in e.items() if key not in new} for e in content["groups"]]
    old = {"format": "tokengroups.groups", "version": 1, "groups": groups}
    (tmp_path / "groups.json").write_text(json.dumps(old))
    scene = import_scene(tmp_path / "scene.ply").scene
    assert scene.group_ids.tolist() == [2, 5, 8] and scene.semantics is None
    assert scene.group_names == ("thing 0", "thing 1", "thing 2") and len(scene.anchors) == 6


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("embedding", None),
        ("embedding", []),
        ("embedding", [1.0, 0.0]),
        ("embedding", [float("nan")] * 6),
        ("calibration", [1.0]),
        ("calibration", None),
    ],
)
def test_damaged_semantics_are_refused(tmp_path: Path, place: str, value: object) -> None:
    content = exported_list(random_scene(semantic_dim=6), tmp_path)
    (content if place == "calibration" else content["groups"][0])[place] = value
    (tmp_path / "groups.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="damaged group list") as caught:
        import_scene(tmp_path / "scene.ply")
    assert "\n" not in str(caught.value)


def test_command_labels_groups_with_a_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings of groups 1, 2 and 0 take the place of texts."""
    scene = random_scene(semantic_dim=6)
    assert scene.semantics is not None
    rows = scene.semantics.embeddings[[1, 2, 0]]
    encoder = SimpleNamespace(encode_text=lambda texts: rows[: len(texts)])
    monkeypatch.setattr("tokengroups.cli.text.load_encoder_for", lambda *_: encoder)
    save_scene(tmp_path / "scene.safetensors", scene)
    command = ["export", str(tmp_path / "scene.safetensors"), "-o", str(tmp_path / "scene.ply")]
    assert main([*command, "--vocabulary", "cup, vase ,floor", "--groups", str(tmp_path / "groups")]) == 0
    for folder in (tmp_path, tmp_path / "groups"):
        content = json.loads((folder / "groups.json").read_text())
        assert content["vocabulary"] == ["cup", "vase", "floor"]
        assert [entry["label"] for entry in content["groups"]] == ["floor", "cup", "vase"]
        expected = 1 / (1 + np.exp(-12 * (1 - 0.5)))
        assert [e["label_probability"] for e in content["groups"]] == pytest.approx([expected] * 3, rel=1e-5)
    monkeypatch.undo()
    save_scene(tmp_path / "scene.safetensors", random_scene())
    assert main([*command, "--vocabulary", "cup"]) == 2 and "has no semantics" in capsys.readouterr().err
    assert main([*command, "--text-encoder", "minilm"]) == 2 and "--vocabulary" in capsys.readouterr().err


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


def save_double(path: Path, gaussians: Gaussians, shift: np.ndarray) -> np.ndarray:
    """Write a PLY in double precision with shifted positions; returns them."""
    vertices = vertices_from_gaussians(gaussians)
    table = vertices.astype([(name, "<f8") for name in vertices.dtype.names or ()])
    for axis, name in enumerate("xyz"):
        table[name] += shift[axis]
    write_vertices(path, table)
    return np.stack([table[name] for name in "xyz"], axis=1)


def test_positions_far_from_the_origin_keep_their_digits(tmp_path: Path) -> None:
    """With the recorded origin they are as exact as float32 is near 0; cameras move along."""
    scene = random_scene()
    export_scene(scene, tmp_path / "a.ply")
    near = import_scene(tmp_path / "a.ply").scene
    shift = np.array([5e5, 4e6, -300.0])
    positions = save_double(tmp_path / "a.ply", near.gaussians, shift)
    entries = json.loads((tmp_path / "cameras.json").read_text())
    for entry in entries:
        pose = np.array(entry.pop("cam_from_world"))
        entry["position"] = (-pose[:3, :3].T @ pose[:3, 3] + shift).tolist()
    (tmp_path / "cameras.json").write_text(json.dumps(entries))
    imported = import_scene(tmp_path / "a.ply")
    world_from_scene = np.array(imported.scene.provenance["world_from_scene"])
    origin = world_from_scene[:3, 3]
    assert np.array_equal(world_from_scene[:, :3], np.eye(4)[:, :3])
    assert np.abs(origin - shift).max() < 5 and "moved so that" in imported.notes[0]
    again = imported.scene.gaussians.means.double().numpy() + origin
    assert np.abs(again - positions).max() < 1e-6 < np.abs(positions.astype(np.float32) - positions).max()
    before, after = (list(render_views(each, each.cameras)) for each in (near, imported.scene))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one.color, other.color, rtol=0, atol=1e-4)  # coordinates differ by up to 1e-7
    save_scene(tmp_path / "a.safetensors", imported.scene)
    assert load_scene(tmp_path / "a.safetensors").provenance["world_from_scene"] == world_from_scene.tolist()


def test_positions_that_float32_holds_stay(tmp_path: Path) -> None:
    gaussians = random_scene().gaussians
    save_double(tmp_path / "near.ply", gaussians, np.array([0.1, 0.2, 0.3]))
    whole = replace(gaussians, means=(100 * gaussians.means).round())
    save_double(tmp_path / "whole.ply", whole, np.array([5e5, 4e6, 0.0]))
    for name in ("near.ply", "whole.ply"):
        imported = import_scene(tmp_path / name)
        assert "world_from_scene" not in imported.scene.provenance and len(imported.notes) == 1


def test_a_few_gaussians_far_away_do_not_move_the_scene(tmp_path: Path) -> None:
    gaussians = random_scene().gaussians
    gaussians.means[0] = 1e8
    save_double(tmp_path / "a.ply", gaussians, np.array([0.1, 0.2, 0.3]))
    assert "world_from_scene" not in import_scene(tmp_path / "a.ply").scene.provenance


def test_drop_invalid_keeps_opaque_and_flat_gaussians(real: Path) -> None:
    vertices = read_vertices(real / "tok_11.ply").copy()
    vertices["opacity"][:5], vertices["scale_2"][5:9] = np.inf, -np.inf
    write_vertices(real / "tok_11.ply", vertices)
    kept = import_scene(real / "tok_11.ply").scene.gaussians
    assert kept.opacities[:5].tolist() == [1] * 5 and kept.scales[5:9, 2].tolist() == [0] * 4
    vertices["opacity"][9], vertices["scale_0"][10], vertices["scale_0"][11] = np.nan, np.inf, 89
    vertices["x"][12] = 2e9
    write_vertices(real / "tok_11.ply", vertices)
    with pytest.raises(UserError, match="4 of 64 Gaussians hold NaN or infinite values, values beyond 1e.09"):
        import_scene(real / "tok_11.ply")
    imported = import_scene(real / "tok_11.ply", drop_invalid=True)
    assert imported.notes[0] == "tok_11.ply: left out 4 invalid Gaussians"
    left = imported.scene.gaussians
    assert torch.equal(left.means[:9], kept.means[:9]) and torch.equal(left.means[9:], kept.means[13:])


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
        ({"anchor_sizes": [4, "4"]}, "damaged group list"),
        ({"anchor_sizes": [2**62, -(2**62) + 8]}, "damaged group list"),
        ({"anchor_sizes": [10, -2]}, "do not add up"),
        ({"count": float("inf")}, "damaged group list: .*inf is no whole number"),
        ({"count": float("nan")}, "damaged group list"),
        ({"count": 7.5}, "7.5 is no whole number"),
        ({"count": True}, "damaged group list"),
        ({"first": 10**400}, "damaged group list"),
        ({"id": 1e300}, "1e.300 is no whole number"),
        ({"id": 2**31}, "damaged group list"),
        ({"id": 2**63}, "damaged group list"),
        ({"id": "7"}, "damaged group list"),
        ({"id": None}, "damaged group list"),
        ({"id": [1]}, "damaged group list"),
        ({"name": ["x"]}, "damaged group list"),
        ({"file": None}, "damaged group list"),
        ({"file": "a\0.ply"}, r"should be in a\\x00.ply"),
        ({"file": "\ud800.ply"}, r"should be in \\ud800.ply"),
        ({"file": "x" * 5000}, "which is not there"),
        ({"file": ""}, "which is not there"),
        ({"file": ".."}, "which is not there"),
    ],
)
def test_sidecar_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    export_groups(random_scene(), tmp_path / "out")
    spoil(tmp_path / "out", change)
    with pytest.raises(UserError, match=words) as caught:
        import_scene(tmp_path / "out")
    assert str(caught.value).isprintable()


def test_names_of_any_characters_come_through(tmp_path: Path) -> None:
    export_groups(random_scene(), tmp_path / "out")
    name = "\x1b[31m \0 \ud800 \u0663 \n x"
    spoil(tmp_path / "out", {"name": name})
    save_scene(tmp_path / "a.safetensors", import_scene(tmp_path / "out").scene)
    assert load_scene(tmp_path / "a.safetensors").group_names[0] == name
    spoil(tmp_path / "out", {"name": None})
    assert import_scene(tmp_path / "out").scene.group_names[0] == ""


@pytest.mark.parametrize(("first", "count"), [(0, 16), (4, None), (0, None)])
def test_groups_that_share_gaussians_are_refused(first: int, count: int | None, tmp_path: Path) -> None:
    export_scene(random_scene(), tmp_path / "scene.ply")
    spoil(tmp_path, {"first": first, "count": count, "anchor_sizes": None})
    with pytest.raises(UserError, match="its groups share Gaussians, group . for one"):
        import_scene(tmp_path / "scene.ply")


def test_cameras_that_no_scene_can_hold_are_refused(tmp_path: Path) -> None:
    export_scene(random_scene(), tmp_path / "a.ply")
    entries = json.loads((tmp_path / "cameras.json").read_text())
    (tmp_path / "cameras.json").write_text(json.dumps([entry | {"fx": 1e8, "fy": 1e8} for entry in entries]))
    with pytest.raises(UserError, match="focal length"):
        import_scene(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("groups.json", "[" * 20000, "nested too deeply"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 2, "groups": "abc"}', "damaged group list"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 2, "groups": {"a": 1}}', "damaged group list"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 2, "groups": [7]}', "damaged group list"),
        ("groups.json", '{"format": ["tokengroups.groups"], "version": {}}', "not tokengroups.groups version 1"),
        ("meta.json", '{"instances": 7}', "damaged instance list"),
        ("meta.json", '{"instances": [{"file": "tok_08.ply", "qid": 1e99, "count": 32}]}', "damaged instance list"),
        ("groups.json", "{", "not JSON"),
        ("groups.json", "[]", "expected a JSON object"),
        ("groups.json", '{"format": "x"}', "not tokengroups.groups version 1"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 3}', "not tokengroups.groups version 1 or 2"),
        ("groups.json", '{"format": "tokengroups.groups", "version": 2}', "damaged group list"),
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
    (tmp_path / "meta.json").write_text('{"means": {}}')  # no SOG
    with pytest.raises(UserError, match="no file of splats .*.ksplat.* in .* or its subfolders$"):
        import_scene(tmp_path)
    for name in ("folder.ply", "a", "b"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe.ply")
    with pytest.raises(UserError, match="no file of splats"):
        import_scene(tmp_path)
    with pytest.raises(UserError, match="pipe.ply: not a regular file"):
        import_scene(tmp_path / "pipe.ply")
    for name in ("a", "b"):
        shutil.copy(REAL / "tok_13.ply", tmp_path / name)
    with pytest.raises(UserError, match="2 subfolders hold some, e.g. .*a"):
        import_scene(tmp_path)


@pytest.mark.parametrize("as_groups", [False, True])
def test_groups_come_back_from_spz(as_groups: bool, tmp_path: Path) -> None:
    scene = uneven_scene()
    if as_groups:
        export_groups(scene, tmp_path, suffix=".spz")
    else:
        export_scene(scene, tmp_path / "scene.spz")
    again = import_scene(tmp_path if as_groups else tmp_path / "scene.spz")
    assert again.notes == () and again.scene.group_names == scene.group_names
    assert torch.equal(again.scene.group_ids, scene.group_ids)
    order = torch.argsort(gaussian_columns(scene) * 100 + scene.anchor_ids, stable=True)
    torch.testing.assert_close(again.scene.gaussians.means, scene.gaussians.means[order], rtol=0, atol=1e-5)
    assert torch.equal(again.scene.cameras.cam_from_world, scene.cameras.cam_from_world)


def test_glb_has_a_node_for_every_group(tmp_path: Path) -> None:
    scene = replace(random_scene(), group_names=("lamp", "", ""))
    labels = [GroupLabel("", 0.0), GroupLabel("chair", 0.8), GroupLabel("", 0.0)]
    export_scene(scene, tmp_path / "a.glb", labels, groups_folder=tmp_path / "groups")
    data = (tmp_path / "a.glb").read_bytes()
    document = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert [node["name"] for node in document["nodes"]] == ["lamp", "chair", "group 8"]
    counts = [
        document["accessors"][mesh["primitives"][0]["attributes"]["POSITION"]]["count"] for mesh in document["meshes"]
    ]
    assert counts == torch.bincount(gaussian_columns(scene)).tolist()
    assert sorted(path.name for path in (tmp_path / "groups").glob("*.glb"))[0] == "group_002.glb"


def test_packed_files_become_groups_where_there_is_no_ply(tmp_path: Path) -> None:
    true = random_gaussians(20)
    (tmp_path / "sog").mkdir()
    for name, content in sog_files(true).items():
        (tmp_path / "sog" / name).write_bytes(content)
    for source in (tmp_path / "sog", tmp_path / "sog" / "meta.json", tmp_path):
        assert import_scene(source).scene.group_names == ("sog",)
    write_splat(tmp_path / "b.splat", true)
    save_spz(tmp_path / "a.spz", true)
    assert import_scene(tmp_path).scene.group_names == ("a", "b")
    save_ply(tmp_path / "c.ply", true)
    assert import_scene(tmp_path).scene.group_names == ("c",)
    imported = import_scene(tmp_path / "a.spz").scene
    assert imported.gaussians.sh.shape == (20, 4, 3) and len(imported.anchors) == 1


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


def test_a_file_of_many_groups_is_read_once(tmp_path: Path) -> None:
    export_scene(random_scene(groups=40), tmp_path / "scene.ply")
    opened: list[str] = []
    listening = [True]
    sys.addaudithook(lambda event, details: opened.append(str(details[0])) if listening and event == "open" else None)
    imported = import_scene(tmp_path / "scene.ply")
    listening.clear()
    assert len(imported.scene.group_ids) == 40
    assert opened.count(str(tmp_path / "scene.ply")) == 2  # first its beginning, which tells the format


def test_more_anchors_and_groups_than_a_scene_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_scene(random_scene(groups=5, anchors_per_group=4), tmp_path / "scene.ply")
    monkeypatch.setattr("tokengroups.scene.importing.MAX_PROBABILITIES", 5 * 20)
    import_scene(tmp_path / "scene.ply")
    monkeypatch.setattr("tokengroups.scene.importing.MAX_PROBABILITIES", 5 * 20 - 1)
    with pytest.raises(UserError, match="20 anchors in 5 groups are too many.*without anchor_sizes"):
        import_scene(tmp_path / "scene.ply")
    content = json.loads((tmp_path / "groups.json").read_text())
    for entry in content["groups"]:
        del entry["anchor_sizes"]
    (tmp_path / "groups.json").write_text(json.dumps(content))
    assert len(import_scene(tmp_path / "scene.ply").scene.anchors) == 5


@pytest.mark.parametrize("as_groups", [False, True])
def test_scores_come_back(tmp_path: Path, as_groups: bool) -> None:
    scene = replace(random_scene(), group_scores=torch.tensor([0.123456789, 0.0, 0.5]))
    content = exported_list(scene, tmp_path)
    assert [entry["score"] for entry in content["groups"]] == [0.123457, None, 0.5]
    export_groups(scene, tmp_path / "groups")
    again = import_scene(tmp_path / "groups" if as_groups else tmp_path / "scene.ply").scene
    assert again.group_scores is not None and again.group_scores.tolist() == pytest.approx([0.123457, 0, 0.5])
    export_scene(random_scene(), tmp_path / "scene.ply")
    assert import_scene(tmp_path / "scene.ply").scene.group_scores is None


@pytest.mark.parametrize("score", ["high", -0.5, float("inf"), [0.5]])
def test_damaged_scores_are_refused(tmp_path: Path, score: object) -> None:
    content = exported_list(random_scene(), tmp_path)
    content["groups"][0]["score"] = score
    (tmp_path / "groups.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="score|damaged group list") as caught:
        import_scene(tmp_path / "scene.ply")
    assert "\n" not in str(caught.value)
