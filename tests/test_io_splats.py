"""Packed splat files against writers that follow the formats' documents, Gaussian by Gaussian, and refusals."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from splat_files import (
    random_gaussians,
    rows,
    smaller_three,
    sog_files,
    webp,
    write_compressed_ply,
    write_ksplat,
    write_sog,
    write_splat,
)

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh, covariances, faults, half_turn, transform
from tokengroups.io.splats import find_format
from tokengroups.io.splats.spz import load_spz, save_spz
from tokengroups.types import Gaussians


def packed(content: bytes) -> bytes:
    """Compress without the time of day, which would be part of the names of tests."""
    return gzip.compress(content, mtime=0)


def load(path: Path) -> Gaussians:
    read = find_format(path)
    assert read is not None
    gaussians = read(path)
    assert not any(bool(mask.any()) for mask in faults(gaussians).values())
    return gaussians


def assert_near(
    found: Gaussians, true: Gaussians, *, means: float, scales: float, turn: float = 2e-2, rest: float = 0.0
) -> None:
    """Means in units, scales relative, turns in radians; colours and opacities to half a byte."""
    torch.testing.assert_close(found.means, true.means, rtol=0, atol=means)
    torch.testing.assert_close(found.scales.log(), true.scales.log(), rtol=0, atol=scales)
    cosine = (torch.nn.functional.normalize(found.quats, dim=1) * true.quats).sum(dim=1).abs().clamp(max=1)
    assert float(2 * cosine.arccos().max()) < turn
    torch.testing.assert_close(found.opacities, true.opacities, rtol=0, atol=0.51 / 255)
    torch.testing.assert_close(color_from_sh(found.sh), color_from_sh(true.sh), rtol=0, atol=0.51 / 255)
    if rest:
        torch.testing.assert_close(found.sh[:, 1:], true.sh[:, 1:], rtol=0, atol=rest)


def test_splat(tmp_path: Path) -> None:
    true = random_gaussians(degree=0)
    write_splat(tmp_path / "a.splat", true)
    assert_near(load(tmp_path / "a.splat"), true, means=1e-6, scales=1e-6)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_ksplat(level: int, degree: int, tmp_path: Path) -> None:
    true = random_gaussians(degree=degree)
    write_ksplat(tmp_path / "a.ksplat", true, level, degree)
    found = load(tmp_path / "a.ksplat")
    half = (1e-6, 20 / 32767, 20 / 32767)[level]
    precision = (1e-6, 1e-3, 1e-3)[level]
    rest = (1e-6, 1e-3, 0.51 / 127.5)[level]
    assert_near(found, true, means=half, scales=precision, turn=2e-3, rest=rest)
    assert found.sh.shape == true.sh.shape


@pytest.mark.parametrize(("degree", "colors"), [(0, True), (0, False), (1, True), (2, True), (3, True)])
def test_compressed_ply(degree: int, colors: bool, tmp_path: Path) -> None:
    true = random_gaussians(600, degree)  # three chunks
    write_compressed_ply(tmp_path / "a.ply", true, colors)
    found = load(tmp_path / "a.ply")
    spread = float((true.means.amax(dim=0) - true.means.amin(dim=0)).max())
    assert_near(found, true, means=0.51 * spread / 1023, scales=0.51 * 9 / 1023, turn=6e-3, rest=8 / 256 + 1e-6)


@pytest.mark.parametrize("bands", [0, 1, 2, 3])
@pytest.mark.parametrize("packed", [True, False])
def test_sog(bands: int, packed: bool, tmp_path: Path) -> None:
    true = random_gaussians(degree=bands)
    files = sog_files(true, bands)
    if packed:
        write_sog(tmp_path / "a.sog", files)
    else:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    found = load(tmp_path / ("a.sog" if packed else "meta.json"))
    steps = torch.expm1(true.means.abs().log1p() + 0.51 * 5 / 65535) - true.means.abs()
    bound = dict(means=float(steps.max()), scales=0.51 * 10 / 255, turn=2.5e-2, rest=0.51 * 2 / 255)
    colors = replace(found, sh=torch.cat([true.sh[:, :1], found.sh[:, 1:]], dim=1))
    assert_near(colors, true, **bound)
    torch.testing.assert_close(found.sh[:, 0], true.sh[:, 0], rtol=0, atol=0.51 * 4 / 255)  # by its codebook


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [1e-2, 1.0, 1e4])
def test_spz_round_trip(degree: int, size: float, tmp_path: Path) -> None:
    true = random_gaussians(degree=degree)
    true = replace(true, means=true.means * size)
    save_spz(tmp_path / "a.spz", true)
    found = load(tmp_path / "a.spz")
    farthest = float(true.means.abs().max())
    finest = 2.0**-24  # of the fraction's 23 bits
    bounds = dict(means=max(1e-6 * farthest, finest), scales=1 / 32 + 1e-5, turn=4e-3, rest=1 / 16 + 1e-6)
    wide = replace(found, sh=torch.cat([true.sh[:, :1], found.sh[:, 1:]], dim=1))
    assert_near(wide, true, **bounds)
    torch.testing.assert_close(found.sh[:, 0], true.sh[:, 0], rtol=0, atol=0.51 / 255 / 0.15)
    steps = (found.sh[:, 1:4] * 16).where(found.sh[:, 1:4].abs() != 127 / 128, 16)  # the last step is cut short
    torch.testing.assert_close(steps, steps.round())  # 5 bits, 0 is one of the values


def spz_content(gaussians: Gaussians, version: int) -> tuple[bytes, list[bytes]]:
    """Header and attributes as Niantic's library writes them, Gaussian by Gaussian; axes y up."""
    parts = [bytearray() for _ in range(6)]
    for mean, quat, scale, opacity, sh in rows(half_turn(gaussians)):
        for value in mean:
            parts[0] += (round(value * 4096) & 0xFFFFFF).to_bytes(3, "little")
        parts[1].append(round(255 * opacity))
        parts[2] += bytes(round(0.15 * 255 * c + 127.5) for c in sh[0])
        parts[3] += bytes(round((math.log(s) + 10) * 16) for s in scale)
        if version == 2:
            sign = -1 if quat[0] < 0 else 1
            parts[4] += bytes(round(127.5 * sign * q + 127.5) for q in quat[1:])
        else:
            largest, others = smaller_three([*quat[1:], quat[0]])
            packed = largest
            for value in others:
                packed = packed << 10 | (value < 0) << 9 | round(abs(value) / math.sqrt(0.5) * 511)
            parts[4] += packed.to_bytes(4, "little")
        parts[5] += bytes(round(128 * c + 128) for row in sh[1:] for c in row)
    degree = math.isqrt(gaussians.sh.shape[1]) - 1
    header = struct.pack("<4sIIBBB", b"NGSP", version, len(gaussians.means), degree, 12, 1)
    return header, [bytes(part) for part in parts]


def write_spz(path: Path, gaussians: Gaussians, version: int) -> None:
    header, parts = spz_content(gaussians, version)
    if version < 4:
        path.write_bytes(packed(header + b"\0" + b"".join(parts)))
        return
    zstandard = pytest.importorskip("zstandard", reason="SPZ version 4 needs zstandard")
    parts = [part for part in parts if part]
    streams = [zstandard.ZstdCompressor().compress(part) for part in parts]
    sizes = zip(streams, parts, strict=True)
    table = b"".join(struct.pack("<QQ", len(stream), len(part)) for stream, part in sizes)
    path.write_bytes(header + bytes([len(parts)]) + struct.pack("<I12x", 32) + table + b"".join(streams))


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_spz_of_every_version(version: int, degree: int, tmp_path: Path) -> None:
    true = random_gaussians(degree=degree)
    write_spz(tmp_path / "a.spz", true, version)
    found = load(tmp_path / "a.spz")
    bounds = dict(means=0.51 / 4096, scales=1 / 32 + 1e-5, rest=0.51 / 128)
    wide = replace(found, sh=torch.cat([true.sh[:, :1], found.sh[:, 1:]], dim=1))
    if version == 2:  # w is imprecise where it is small: compare what is stored
        turned, expected = half_turn(found).quats, half_turn(true).quats
        sign = (turned * expected).sum(dim=1, keepdim=True).sign()
        torch.testing.assert_close(turned[:, 1:], sign * expected[:, 1:], rtol=0, atol=0.51 / 127.5)
        wide = replace(wide, quats=true.quats)
    assert_near(wide, true, turn=4e-3, **bounds)


def test_our_spz_is_the_one_of_a_loop(tmp_path: Path) -> None:
    true = random_gaussians(degree=0)
    true = replace(true, means=true.means.clamp(-127, 127) * 8 + 128.0)  # so far that 12 bits are the fraction's
    save_spz(tmp_path / "a.spz", true)
    ours, (header, parts) = gzip.decompress((tmp_path / "a.spz").read_bytes()), spz_content(true, 3)
    assert ours[:13] == header[:13] and ours[13] == 12
    both = np.frombuffer(ours[16:], np.uint8), np.frombuffer(b"".join(parts), np.uint8)
    assert (both[0] != both[1]).mean() < 1e-3  # halves may be rounded to the other side


def test_spz_has_no_place_for_everything(tmp_path: Path) -> None:
    true = random_gaussians(3)
    with pytest.raises(UserError, match=r"a.spz: SPZ has no place for positions .* units away; write a PLY"):
        save_spz(tmp_path / "a.spz", replace(true, means=true.means + 1e6))
    with pytest.raises(UserError, match="SPZ has no place for scales of 400 units"):
        save_spz(tmp_path / "a.spz", replace(true, scales=true.scales + 400))
    flat = replace(true, scales=torch.zeros(3, 3))
    save_spz(tmp_path / "a.spz", flat)
    torch.testing.assert_close(load(tmp_path / "a.spz").scales, torch.full((3, 3), math.exp(-10)))


@pytest.mark.parametrize("name", ["a.spz", "none.spz"])
def test_gsply_reads_our_spz(name: str, tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply", reason="gsply is not installed")
    true = half_turn(random_gaussians(0 if name == "none.spz" else 200, degree=2))
    save_spz(tmp_path / name, half_turn(true))
    ours, theirs = half_turn(load_spz(tmp_path / name)), gsply.spz.read_spz(tmp_path / name)
    np.testing.assert_allclose(theirs.means, ours.means.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.exp(theirs.scales), ours.scales.numpy(), rtol=1e-5)
    np.testing.assert_allclose(theirs.shN.reshape(ours.sh[:, 1:].shape), ours.sh[:, 1:].numpy(), atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_half_turn_is_a_rotation_and_its_own_inverse(degree: int) -> None:
    true = random_gaussians(20, degree)
    turned = half_turn(true)
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(covariances(turned), rotation @ covariances(true) @ rotation)
    torch.testing.assert_close(turned.sh, transform(true, torch.zeros(3), rotation).sh)
    again = half_turn(turned)
    torch.testing.assert_close(again.sh, true.sh)
    assert torch.equal(again.means, true.means)


# --- refusals -------------------------------------------------------------------------------------------------------


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    read = find_format(path)
    assert read is not None
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).isprintable() and str(caught.value).startswith(str(path))
    return str(caught.value)


def spz(version: int = 3, count: int = 1, degree: int = 0, bits: int = 12, flags: int = 0, body: bytes = b"") -> bytes:
    return struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, flags, 6) + body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (packed(spz(body=bytes(19))), "truncated"),
        (packed(spz(body=bytes(20)))[:-12], "truncated"),
        (packed(spz(body=bytes(20)))[:-8] + bytes(8), "damaged: .*incorrect data check"),
        (b"\x1f\x8b" + bytes(30), "damaged"),
        (packed(b"text"), "truncated"),
        (packed(bytes(40)), "not an SPZ file"),
        (packed(spz(1)), "version 1 with SH degree 0; versions 2 to 4 and degrees 0 to 3"),
        (packed(spz(degree=4)), "SH degree 4"),
        (packed(spz(bits=200)), "200 fractional bits"),
        (packed(spz(flags=2)), "extensions are not read"),
        (packed(spz(count=2**32 - 1)), "4,294,967,295 Gaussians, more than"),
        (packed(spz(count=2**24)), "more than 100 times as many"),
        (spz(4, body=bytes(16)), "6 streams for 5 attributes"),
        (spz(4, degree=1, body=bytes(16)), "truncated"),
        (spz(4, count=2**24, body=bytes(400)), "more than 100 times as many"),
    ],
)
def test_damaged_spz_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    if content.startswith(b"NGSP"):
        pytest.importorskip("zstandard", reason="SPZ version 4 needs zstandard")
    line = refused(tmp_path / "a.spz", content)
    assert re.search(words, line), line


def test_spz_4_without_zstandard_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert "needs `pip install zstandard`" in refused(tmp_path / "a.spz", spz(4))


def test_damaged_splat_and_ksplat_are_refused(tmp_path: Path) -> None:
    assert "no multiple of 32 bytes" in refused(tmp_path / "a.splat", bytes(33))
    assert "truncated" in refused(tmp_path / "a.ksplat", bytes(100))
    assert "version 0.0" in refused(tmp_path / "a.ksplat", bytes(4096))
    write_ksplat(tmp_path / "a.ksplat", random_gaussians(), 1)
    content = (tmp_path / "a.ksplat").read_bytes()
    assert "truncated" in refused(tmp_path / "a.ksplat", content[:-1])
    for offset in (4, 4096, 4100, 4108, 4128, 4132):  # numbers of sections, Gaussians, buckets
        huge = content[:offset] + b"\xff\xff\xff\xff" + content[offset + 4 :]
        assert refused(tmp_path / "a.ksplat", huge)
    assert "level 7" in refused(tmp_path / "a.ksplat", content[:20] + b"\7" + content[21:])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"element chunk 1", b"element chunk 0", "0 chunks for 200 Gaussians"),
        (b"element chunk 1", b"element chunk 99999999999", "promises 99999999999 vertices"),
        (b"element vertex 200", b"element vertex 9999999", "promises 9999999 vertices"),
        (b"uint packed_color", b"float packed_color", "packed numbers that are no uint"),
        (b"packed_color", b"unpacked_color", "packed_color"),
        (b"float min_scale_x", b"float nim_scale_x", "min_scale_x"),
        (b"binary_little_endian", b"ascii", "in ascii"),
        (b"f_rest_0\n", b"f_rest_x\n", "f_rest_0"),
        (b"element sh 200", b"element sh 199", "199 rows of 9"),
    ],
)
def test_damaged_compressed_ply_is_refused(old: bytes, new: bytes, words: str, tmp_path: Path) -> None:
    write_compressed_ply(tmp_path / "a.ply", random_gaussians())
    content = (tmp_path / "a.ply").read_bytes()
    assert old in content
    assert words in refused(tmp_path / "a.ply", content.replace(old, new))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 1}, "version 1; 2 is read"),
        ({"count": 10**12}, "Gaussians, more than"),
        ({"count": 0}, "'count' is 0"),
        ({"count": 2**24}, "pixels for 16777216 Gaussians"),
        ({"count": "many"}, "wrong form"),
        ({"quats": {"files": ["../quats.webp"]}}, "is no name of a file"),
        ({"quats": {"files": ["none.webp"]}}, "none.webp"),
        ({"quats": {"files": ["sh0.webp"]}}, "without the number of its largest component"),
        ({"means": {"mins": [0], "maxs": [1], "files": ["means_l.webp", "means_u.webp"]}}, "need 3 numbers"),
        ({"scales": {"codebook": [], "files": ["scales.webp"]}}, "a codebook of shape"),
        ({"shN": {"bands": 2, "codebook": [0], "files": ["shN_centroids.webp", "shN_labels.webp"]}}, "for 2 bands"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_sog_is_refused(change: dict, words: str, packed: bool, tmp_path: Path) -> None:
    files = sog_files(random_gaussians())
    files["meta.json"] = json.dumps(json.loads(files["meta.json"]) | change).encode()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    write_sog(tmp_path / "b.sog", files)
    if packed:
        assert words in refused(tmp_path / "a.sog", (tmp_path / "b.sog").read_bytes())
    else:
        with pytest.raises(UserError, match=words):
            load(tmp_path / "meta.json")


def test_damaged_zip_files_are_refused(tmp_path: Path) -> None:
    files = sog_files(random_gaussians(40))
    write_sog(tmp_path / "b.sog", files)
    content = (tmp_path / "b.sog").read_bytes()
    assert "zip" in refused(tmp_path / "a.sog", content[:-30])
    assert "zip" in refused(tmp_path / "a.sog", b"PK\x03\x04" + bytes(100))
    assert "damaged" in refused(tmp_path / "a.sog", content.replace(b"WEBPVP8L", b"WEBPVP8X"))
    with zipfile.ZipFile(tmp_path / "b.sog", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("meta.json", "{}")
    assert "another method than deflate" in refused(tmp_path / "a.sog", (tmp_path / "b.sog").read_bytes())
    with zipfile.ZipFile(tmp_path / "b.sog", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.json", " " * 10**8)
    assert "too large" in refused(tmp_path / "a.sog", (tmp_path / "b.sog").read_bytes())


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    """Small files that would become gigabytes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = deflate.compress(spz(count=2**24)) + b"".join(deflate.compress(bytes(2**22)) for _ in range(84))
    (tmp_path / "a.spz").write_bytes(packed + deflate.flush())
    files = sog_files(random_gaussians(40))
    files["quats.webp"] = webp(np.full((4000, 4000, 4), 255, np.uint8))
    write_sog(tmp_path / "a.sog", files)
    for name, words in (("a.spz", "100 times as many"), ("a.sog", "a.sog: more than 4.1943 megapixels")):
        read = find_format(tmp_path / name)
        tracemalloc.start()
        with pytest.raises(UserError, match=words):
            assert read is not None and read(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**23, peak


def test_formats_are_known_by_their_beginning(tmp_path: Path) -> None:
    true = random_gaussians(10)
    writers: list[tuple[str, Callable[[Path], None]]] = [
        ("spz", lambda path: save_spz(path, true)),
        ("sog", lambda path: write_sog(path, sog_files(true))),
        ("compressed", lambda path: write_compressed_ply(path, true)),
    ]
    for name, write in writers:
        write(tmp_path / name)
        assert len(load(tmp_path / name).means) == 10
    (tmp_path / "a.ply").write_bytes(b"ply\ncomment element chunk 1\nend_header\nelement chunk 1\n")
    assert find_format(tmp_path / "a.ply") is None
    assert find_format(tmp_path / "compressed") is not None
