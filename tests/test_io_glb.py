"""GLB files, read by trimesh and byte by byte."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from splat_files import random_gaussians

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh, half_turn
from tokengroups.io.glb import GroupPart, save_glb

PREFIX = "KHR_gaussian_splatting:"


def read(path: Path) -> tuple[dict, bytes]:
    """JSON and binary part, whose headers must be right."""
    data = path.read_bytes()
    magic, version, length, json_length, kind = struct.unpack_from("<4sIII4s", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON") and json_length % 4 == 0
    size, kind = struct.unpack_from("<I4s", data, 20 + json_length)
    assert kind == b"BIN\0" and size == len(data) - 28 - json_length and size % 4 == 0
    return json.loads(data[20 : 20 + json_length]), data[28 + json_length :]


def values(document: dict, content: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    kind = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
    assert accessor["byteOffset"] + accessor["count"] * width * np.dtype(kind).itemsize <= view["byteLength"]
    assert view["byteOffset"] % 4 == 0 and (accessor["byteOffset"] + view["byteOffset"]) % 4 == 0
    start = view["byteOffset"] + accessor["byteOffset"]
    return np.frombuffer(content, kind, accessor["count"] * width, start).reshape(-1, width)


@pytest.mark.parametrize("degree", [0, 3])
def test_every_attribute_of_every_group(degree: int, tmp_path: Path) -> None:
    true = random_gaussians(50, degree)
    parts = [GroupPart(4, "chair", 30), GroupPart(7, "none", 0), GroupPart(9, "stühle", 20)]
    save_glb(tmp_path / "a.glb", true, parts)
    document, content = read(tmp_path / "a.glb")
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"] and document["scenes"] == [{"nodes": [0, 1]}]
    names = [(node["name"], node["extras"]["group_id"]) for node in document["nodes"]]
    assert names == [("chair", 4), ("stühle", 9)]
    turned, first = half_turn(true), 0
    quats = torch.nn.functional.normalize(turned.quats, dim=1)[:, [1, 2, 3, 0]]
    for node, count in zip(document["nodes"], (30, 20), strict=True):
        (primitive,) = document["meshes"][node["mesh"]]["primitives"]
        assert primitive["mode"] == 0 and primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"
        found = {name: values(document, content, index) for name, index in primitive["attributes"].items()}
        mine = slice(first, first + count)
        assert np.array_equal(found["POSITION"], turned.means[mine])
        np.testing.assert_allclose(found[f"{PREFIX}ROTATION"], quats[mine])
        assert np.array_equal(found[f"{PREFIX}SCALE"], true.scales[mine])
        assert np.array_equal(found[f"{PREFIX}OPACITY"][:, 0], true.opacities[mine])
        index = 0
        for each in range(degree + 1):
            for coefficient in range(2 * each + 1):
                name = f"{PREFIX}SH_DEGREE_{each}_COEF_{coefficient}"
                assert np.array_equal(found[name], turned.sh[mine, index])
                index += 1
        assert len(found) == 5 + index
        bounds = document["accessors"][primitive["attributes"]["POSITION"]]
        assert bounds["min"] == turned.means[mine].amin(dim=0).tolist()
        first += count


def test_trimesh_sees_points_of_the_groups_colors(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    true = random_gaussians(20)
    save_glb(tmp_path / "a.glb", true, [GroupPart(1, "chair", 12), GroupPart(2, "table", 8)])
    scene = trimesh.load(tmp_path / "a.glb")
    assert sorted(scene.geometry) == ["chair", "table"]
    cloud = scene.geometry["chair"]
    np.testing.assert_allclose(cloud.vertices, half_turn(true).means[:12])
    expected = torch.cat([color_from_sh(true.sh), true.opacities[:, None]], dim=1)[:12]
    np.testing.assert_allclose(cloud.colors / 255, expected, atol=0.51 / 255)


def test_a_file_that_glb_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokengroups.io.glb._LARGEST", 100)
    with pytest.raises(UserError, match="too much for one GLB"):
        save_glb(tmp_path / "a.glb", random_gaussians(20))
    assert not (tmp_path / "a.glb").exists()
