"""Hostile scene files, files of splats and group lists: one line that refuses them, or a scene that can be used."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import random_scene
from splat_files import random_gaussians, sog_files, write_compressed_ply, write_ksplat, write_sog, write_splat

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.ply import vertices_from_gaussians
from tokengroups.io.ply_table import write_table
from tokengroups.io.splats.spz import save_spz
from tokengroups.retrieval import find_groups
from tokengroups.scene import (
    export_groups,
    export_scene,
    import_scene,
    load_scene,
    orbit_cameras,
    render_portrait,
    render_views,
    save_scene,
    summarise,
    visible_shares,
)
from tokengroups.scene.views import resize_cameras
from tokengroups.types import TokenScene

derandomize = os.environ.get("FUZZ_FACTOR", "1") == "1"
fuzzed = settings(max_examples=examples(100), deadline=None, derandomize=derandomize, database=None)
briefly = settings(fuzzed, max_examples=examples(30))

NUMBERS = [0, -1, 2, 0.5, 1e-30, 1e8, 1e20, -1e38, 1e300, 2**31, 2**63, -(2**63), 10**400]
NUMBERS += [float("nan"), float("inf"), float("-inf")]
TEXTS = ["", "a", "٣", "²", "\0", "\ud800", "\x1b[31m", "../a.ply", "7", "x" * 3000, "scene.ply"]
VALUES: list[Any] = [*NUMBERS, *TEXTS, None, True, [], {}, [1], {"a": 1}, [[]], [None, "a"]]
VALUES += [json.loads("[" * depth + "]" * depth) for depth in (300, 900)]
TOKENS = (
    "0 -1 3 9223372036854775808 1e400 nan inf 1_0 0x1 ² list uchar double property element vertex x scale_0".split()
)
TOKENS += ["", "end_header", "ascii", "comment", "\x1b[31m", "\r", "\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, and its export as one file and as one per group."""
    folder = tmp_path_factory.mktemp("fuzz")
    scene = random_scene(semantic_dim=4)
    save_scene(folder / "scene.safetensors", scene)
    export_scene(scene, folder / "scene.ply")
    export_groups(scene, folder / "groups")
    return folder


def refused_or_usable(read: Callable[[], TokenScene], folder: Path) -> None:
    """Reading refuses with one line; else the scene can be listed, drawn, exported and saved."""
    try:
        scene = read()
    except UserError as error:
        assert str(error).isprintable(), repr(str(error))
        return
    scene = replace(scene, cameras=resize_cameras(scene.cameras, min(scene.cameras.size_hw[0], 16)))
    if scene.cameras.size_hw[1] > 64:
        return
    for cameras in (scene.cameras, orbit_cameras(scene, 2)):
        for view in render_views(scene, cameras):
            assert all(bool(part.isfinite().all()) for part in (view.color, view.alpha, view.depth))
    assert bool(render_portrait(scene, 0, 16, torch.ones(3)).isfinite().all())
    for summary in summarise(scene, visible_shares(scene)):
        assert np.isfinite([*summary.centre, *summary.size]).all()
    if scene.semantics is not None:
        matches = find_groups(scene, scene.semantics.embeddings[0])
        assert all(0 <= match.probability <= 1 for match in matches)
    save_scene(folder / "again.safetensors", scene)
    load_scene(folder / "again.safetensors")
    export_scene(scene, folder / "again" / "a.ply")


@pytest.fixture(autouse=True)
def _place(folder: Path) -> None:
    (folder / "again").mkdir(exist_ok=True)


def places(content: Any, place: tuple = ()) -> list[tuple]:
    """Paths of all values in a JSON document."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place, *(below for key, value in inner for below in places(value, (*place, key)))]


def changed(content: Any, draw: st.DataObject) -> Any:
    """A JSON document with one value replaced or removed; short paths are as likely as long ones."""
    found = places(content)
    depth = draw.draw(st.sampled_from(sorted({len(place) for place in found})))
    place = draw.draw(st.sampled_from([place for place in found if len(place) == depth]))
    if not place:
        return draw.draw(st.sampled_from(VALUES))
    content = json.loads(json.dumps(content))
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    if draw.draw(st.integers(0, 9)) == 0:
        del parent[place[-1]]
    else:
        parent[place[-1]] = draw.draw(st.sampled_from(VALUES))
    return content


@fuzzed
@given(st.data())
def test_metadata_of_scenes(folder: Path, data: st.DataObject) -> None:
    source, target = folder / "scene.safetensors", folder / "metadata.safetensors"
    metadata = read_metadata(source)
    if data.draw(st.integers(0, 4)) == 0:
        key, text = data.draw(st.sampled_from(sorted(metadata))), data.draw(st.sampled_from(TEXTS))
        metadata[key] = text.encode("utf-8", "replace").decode()
    else:
        metadata["scene"] = json.dumps(changed(json.loads(metadata["scene"]), data))
    write_tensors(target, read_tensors(source), metadata)
    refused_or_usable(lambda: load_scene(target), folder)


@fuzzed
@given(st.data())
def test_tensors_of_scenes(folder: Path, data: st.DataObject) -> None:
    source, target = folder / "scene.safetensors", folder / "tensors.safetensors"
    tensors = read_tensors(source)
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name].clone()
    match data.draw(st.sampled_from(["value", "value", "value", "dtype", "shape", "absent"])):
        case "value":
            if tensor.is_floating_point():
                numbers = [float(n) for n in NUMBERS if n != 10**400 and not 1e39 < abs(n) < float("inf")]
            else:
                numbers = [int(n) for n in NUMBERS if -(2**63) <= n < 2**63]
            where = data.draw(st.integers(0, tensor.numel() - 1)) if tensor.numel() else 0
            rows = data.draw(st.sampled_from([slice(where, where + 1), slice(None)]))
            tensor.view(-1)[rows] = data.draw(st.sampled_from(numbers))
        case "dtype":
            kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool]
            tensor = tensor.to(data.draw(st.sampled_from([*kinds, torch.float8_e4m3fn, torch.complex64, torch.int64])))
        case "shape":
            shapes = [tensor[:0], tensor[:1], tensor.flatten(), tensor[None], tensor[..., :0], tensor[..., :1]]
            tensor = data.draw(st.sampled_from(shapes))
    tensors[name] = tensor
    write_tensors(target, tensors, read_metadata(source))
    refused_or_usable(lambda: load_scene(target), folder)


def damaged(data: bytes, draw: st.DataObject, start: int) -> bytes:
    """Bytes with some flipped, cut out or repeated, more often near the start."""
    at = draw.draw(st.integers(0, draw.draw(st.sampled_from([start, len(data) - 1]))))
    match draw.draw(st.sampled_from(["flip", "flip", "truncate", "cut", "repeat"])):
        case "flip":
            return data[:at] + bytes([data[at] ^ (1 << draw.draw(st.integers(0, 7)))]) + data[at + 1 :]
        case "truncate":
            return data[:at]
        case "cut":
            return data[:at] + data[at + draw.draw(st.integers(1, 40)) :]
        case _:
            return data[:at] + data[max(at - draw.draw(st.integers(1, 40)), 0) :]


@fuzzed
@given(st.data())
def test_bytes_of_scenes(folder: Path, data: st.DataObject) -> None:
    target = folder / "bytes.safetensors"
    target.write_bytes(damaged((folder / "scene.safetensors").read_bytes(), data, 2000))
    refused_or_usable(lambda: load_scene(target), folder)


def imported(path: Path, data: st.DataObject) -> Callable[[], TokenScene]:
    drop = data.draw(st.booleans())
    return lambda: import_scene(path, drop_invalid=drop, size=32).scene


@fuzzed
@given(st.data())
def test_headers_of_plys(folder: Path, data: st.DataObject) -> None:
    header, body = (folder / "scene.ply").read_bytes().split(b"end_header\n")
    words = (header.decode() + "end_header\n").split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words) - 1))
        words[at : at + data.draw(st.integers(0, 2))] = [data.draw(st.sampled_from(TOKENS))]
    target = folder / "header" / "a.ply"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(" ".join(words).encode() + body)
    refused_or_usable(imported(target, data), folder)


@fuzzed
@given(st.data())
def test_bytes_of_plys(folder: Path, data: st.DataObject) -> None:
    target = folder / "bytes" / "a.ply"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(damaged((folder / "scene.ply").read_bytes(), data, 900))
    refused_or_usable(imported(target, data), folder)


def refused_or_saved(read: Callable[[], TokenScene], folder: Path) -> None:
    """Reading refuses with one line; else the scene keeps its rules, which `test_values_of_plys` tries further."""
    try:
        scene = read()
    except UserError as error:
        assert str(error).isprintable(), repr(str(error))
        return
    save_scene(folder / "again.safetensors", scene)
    load_scene(folder / "again.safetensors")


PACKED: dict[str, tuple[Callable[[Path], None], int]] = {  # and the bytes of their headers
    "a.splat": (lambda path: write_splat(path, random_gaussians(20, 0)), 40),
    "a.spz": (lambda path: save_spz(path, random_gaussians(20)), 40),
    "a.sog": (lambda path: write_sog(path, sog_files(random_gaussians(20))), 400),
    "a.ply": (lambda path: write_compressed_ply(path, random_gaussians(20)), 900),
    "0.ksplat": (lambda path: write_ksplat(path, random_gaussians(50), 0, bucket=16), 50),
    "1.ksplat": (lambda path: write_ksplat(path, random_gaussians(50), 1, bucket=16), 50),
}


@briefly
@given(st.data())
def test_bytes_of_packed_splats(folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(PACKED)))
    write, header = PACKED[name]
    target, whole = folder / "packed" / name, folder / name
    target.parent.mkdir(exist_ok=True)
    if not whole.exists():
        write(whole)
    content = whole.read_bytes()
    if name == "a.spz" and data.draw(st.booleans()):
        target.write_bytes(gzip.compress(damaged(gzip.decompress(content), data, 16)))
    elif name.endswith(".ksplat") and data.draw(st.booleans()):  # the headers of the sections
        target.write_bytes(content[:4096] + damaged(content[4096:], data, 50))
    else:
        target.write_bytes(damaged(content, data, header))
    refused_or_saved(imported(target, data), folder)


@briefly
@given(st.data())
def test_meta_of_sogs(folder: Path, data: st.DataObject) -> None:
    source, target = folder / "whole.sog", folder / "sog" / "a.sog"
    target.parent.mkdir(exist_ok=True)
    if not source.exists():
        write_sog(source, sog_files(random_gaussians(20)))
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["meta.json"] = json.dumps(changed(json.loads(files["meta.json"]), data)).encode()
    write_sog(target, files)
    refused_or_saved(imported(target, data), folder)


@fuzzed
@given(st.data())
def test_values_of_plys(folder: Path, data: st.DataObject) -> None:
    """Binary with one or two types, and ascii."""
    vertices = vertices_from_gaussians(random_scene(degree=0).gaussians)
    names = vertices.dtype.names or ()
    kinds = {name: data.draw(st.sampled_from(["<f4", "<f8"])) for name in ("x", "opacity")}
    table = vertices.astype([(name, kinds.get(name, "<f4")) for name in names])
    numbers = [float(n) if n != 10**400 else 1e39 for n in NUMBERS] + [88.0, 89.0, 20.0, 1e9, -1e9, 5e6]
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.integers(0, len(table) - 1))
        rows = data.draw(st.sampled_from([slice(row, row + 1), slice(None)]))
        with np.errstate(over="ignore"):
            table[data.draw(st.sampled_from(names))][rows] = data.draw(st.sampled_from(numbers))
    target = folder / "values" / "a.ply"
    target.parent.mkdir(exist_ok=True)
    write_table(target, table)
    if data.draw(st.booleans()):
        header = target.read_bytes().split(b"end_header\n")[0].replace(b"binary_little_endian", b"ascii")
        words = [repr(float(value)) for row in table.tolist() for value in row]
        if data.draw(st.booleans()):
            words[data.draw(st.integers(0, len(words) - 1))] = data.draw(st.sampled_from(TOKENS))
        width = len(names)
        lines = [" ".join(words[i : i + width]) for i in range(0, len(words), width)]
        target.write_bytes(header + b"end_header\n" + "\n".join(lines).encode())
    refused_or_usable(imported(target, data), folder)


@fuzzed
@given(st.data())
def test_group_lists(folder: Path, data: st.DataObject) -> None:
    source = folder / "groups"
    original = json.loads((source / "groups.json").read_text())
    try:
        (source / "groups.json").write_text(json.dumps(changed(original, data)))
        refused_or_usable(imported(source, data), folder)
        refused_or_usable(imported(source / "group_005.ply", data), folder)
    finally:
        (source / "groups.json").write_text(json.dumps(original))
