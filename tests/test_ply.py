"""3DGS PLY: bit-exact round trips, gsplat's writer as oracle, tolerant reading, files that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import tolerance

from tokengroups.errors import UserError
from tokengroups.io.ply import (
    gaussians_from_vertices,
    load_ply,
    read_vertices,
    save_ply,
    vertices_from_gaussians,
    write_vertices,
)
from tokengroups.types import Gaussians

REAL = sorted((Path(__file__).parent / "data" / "instok3d").glob("*.ply"))


def random_gaussians(n: int, degree: int) -> Gaussians:
    return Gaussians(
        means=torch.randn(n, 3),
        quats=torch.randn(n, 4),
        scales=torch.rand(n, 3) * 0.1 + 1e-4,
        opacities=torch.rand(n),
        sh=torch.randn(n, (degree + 1) ** 2, 3),
    )


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_file_comes_back_bit_by_bit(path: Path, tmp_path: Path) -> None:
    write_vertices(tmp_path / "again.ply", read_vertices(path))
    assert (tmp_path / "again.ply").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_file_through_activations_keeps_all_bits_but_the_last_of_logits(path: Path) -> None:
    """Sigmoid in float32 has fewer bits than its logit for opaque Gaussians; all else is exact."""
    before = read_vertices(path)
    after = vertices_from_gaussians(load_ply(path))
    assert after.dtype == before.dtype
    for name in before.dtype.names or ():
        if name != "opacity":
            assert np.array_equal(after[name], before[name]), name
    assert np.abs(after["opacity"] - before["opacity"]).max() < 5e-7


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gaussians_come_back(degree: int, tmp_path: Path) -> None:
    gaussians = random_gaussians(50, degree)
    save_ply(tmp_path / "a.ply", gaussians)
    again = load_ply(tmp_path / "a.ply")
    for name in ("means", "quats", "sh"):
        assert torch.equal(getattr(again, name), getattr(gaussians, name))
    torch.testing.assert_close(again.scales, gaussians.scales, **tolerance("float32"))
    torch.testing.assert_close(again.opacities, gaussians.opacities, **tolerance("float32"))


def test_extreme_values_stay_finite_and_exact(tmp_path: Path) -> None:
    gaussians = random_gaussians(3, 0)
    gaussians.opacities[:] = torch.tensor([0.0, 1.0, 1e-30])
    gaussians.scales[0] = torch.tensor([0.0, 1e-30, 1e4])
    save_ply(tmp_path / "a.ply", gaussians)
    vertices = read_vertices(tmp_path / "a.ply")
    assert all(np.isfinite(vertices[name]).all() for name in vertices.dtype.names or ())
    again = load_ply(tmp_path / "a.ply")
    assert again.opacities[:2].tolist() == [0, 1] and again.scales[0, 0] == 0
    torch.testing.assert_close(again.scales, gaussians.scales, rtol=1e-5, atol=0)
    torch.testing.assert_close(again.opacities, gaussians.opacities, rtol=1e-5, atol=0)


def test_layout_is_the_one_of_3dgs(tmp_path: Path) -> None:
    """The header, channel-major SH, log scales and logits, spelled out."""
    gaussians = random_gaussians(1, 1)
    gaussians.opacities[0] = 0.75
    save_ply(tmp_path / "a.ply", gaussians)
    data = (tmp_path / "a.ply").read_bytes()
    header, body = data.split(b"end_header\n")
    names = [line.split()[2] for line in header.decode().splitlines() if line.startswith("property float ")]
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n")
    assert names == [
        *("x y z nx ny nz f_dc_0 f_dc_1 f_dc_2".split()), *(f"f_rest_{i}" for i in range(9)),
        *("opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()),
    ]  # fmt: skip
    row = dict(zip(names, np.frombuffer(body, "<f4").tolist(), strict=True))
    assert row["nx"] == row["ny"] == row["nz"] == 0
    assert row["f_dc_1"] == pytest.approx(gaussians.sh[0, 0, 1].item())
    assert row["f_rest_2"] == pytest.approx(gaussians.sh[0, 3, 0].item())  # red: coefficients 1, 2, 3
    assert row["f_rest_3"] == pytest.approx(gaussians.sh[0, 1, 1].item())  # then green
    assert row["opacity"] == pytest.approx(np.log(3.0))
    assert row["scale_1"] == pytest.approx(np.log(gaussians.scales[0, 1].item()))
    assert row["rot_0"] == pytest.approx(gaussians.quats[0, 0].item())  # w


def test_gsplat_writes_the_same_values(tmp_path: Path) -> None:
    exporter = pytest.importorskip("gsplat.exporter")
    gaussians = random_gaussians(20, 2)
    data = exporter.export_splats(
        gaussians.means, gaussians.scales.log(), gaussians.quats, gaussians.opacities.logit(),
        gaussians.sh[:, :1], gaussians.sh[:, 1:], format="ply",
    )  # fmt: skip
    (tmp_path / "gsplat.ply").write_bytes(data)
    theirs = load_ply(tmp_path / "gsplat.ply")
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(theirs, name), getattr(gaussians, name), **tolerance("float32"))
    cosine = torch.nn.functional.cosine_similarity(theirs.quats, gaussians.quats)
    torch.testing.assert_close(cosine.abs(), torch.ones(20), **tolerance("float32"))


def test_other_orders_types_and_extra_properties_are_read(tmp_path: Path) -> None:
    vertices = vertices_from_gaussians(random_gaussians(7, 1))
    names = [name for name in (vertices.dtype.names or ()) if not name.startswith("n")]
    shuffled = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    fields = [("segment", "<i4"), *((name, "<f8" if name == "x" else "<f4") for name in shuffled), ("flag", "|u1")]
    other = np.zeros(7, fields)
    for name in shuffled:
        other[name] = vertices[name]
    other["segment"], other["flag"] = 5, 7
    write_vertices(tmp_path / "a.ply", other)
    assert np.array_equal(read_vertices(tmp_path / "a.ply"), other)
    expected = gaussians_from_vertices(vertices)
    again = load_ply(tmp_path / "a.ply")
    assert torch.equal(again.sh, expected.sh) and torch.equal(again.means, expected.means)


def test_big_endian_ascii_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    vertices = vertices_from_gaussians(random_gaussians(4, 0))
    write_vertices(tmp_path / "a.ply", vertices)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")
    fields = [(name, ">f4") for name in vertices.dtype.names or ()]
    text = "\n".join(" ".join(repr(float(value)) for value in row) for row in vertices.tolist())
    kind = b"binary_little_endian"
    variants = [
        header.replace(kind, b"binary_big_endian") + b"end_header\n" + vertices.astype(fields).tobytes(),
        header.replace(kind, b"ascii") + b"end_header\n" + text.encode(),
        header.replace(b"\n", b"\r\n") + b"end_header\r\n" + body,
        header.replace(b"element", b"comment by a test\nelement") + b"end_header\n" + body + b"more elements",
    ]
    for data in variants:
        (tmp_path / "b.ply").write_bytes(data)
        assert np.array_equal(read_vertices(tmp_path / "b.ply"), vertices)


def refused(case: str) -> tuple[bytes, str]:
    """A file that must be refused, and words of the line that says why."""
    data = REAL[0].read_bytes()
    header, body = data.split(b"end_header\n")
    vertices = read_vertices(REAL[0]).copy()
    if case in ("nan", "inf", "zero quaternion", "overflow"):
        vertices["y"][3] = np.nan if case == "nan" else 0
        vertices["opacity"][4] = np.inf if case == "inf" else 0
        vertices["scale_0"][5] = 100 if case == "overflow" else 0
        if case == "zero quaternion":
            for i in range(4):
                vertices[f"rot_{i}"][6] = 0
        return header + b"end_header\n" + vertices.tobytes(), "1 of 256 Gaussians hold NaN.*--drop-invalid"
    words = "truncated: the header promises 256 vertices, the file holds 255"
    return {
        "truncated": (data[:-1], words),
        "truncated header": (data[:100], "the PLY header does not end"),
        "truncated ascii": (header.replace(b"binary_little_endian", b"ascii") + b"end_header\n1 2", "truncated"),
        "words in ascii": (header.replace(b"binary_little_endian", b"ascii") + b"end_header\na b", "damaged ascii"),
        "no ply": (b"hello", "not a PLY file"),
        "point cloud": (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
            b"end_header\n0 0 0\n",
            "not a 3DGS PLY: it lacks the properties f_dc_0",
        ),
        "mesh first": (header.replace(b"element vertex", b"element face") + b"end_header\n", "element 'vertex'"),
        "compressed": (b"ply\nformat binary_little_endian 1.0\nelement chunk 1\nend_header\n", "compressed PLY"),
        "list property": (header.replace(b"float x", b"list uchar int x") + b"end_header\n", "damaged PLY header"),
        "bad count": (header.replace(b"vertex 256", b"vertex many") + b"end_header\n", "damaged PLY header"),
        "no format": (b"ply\nelement vertex 1\nend_header\n", "damaged PLY header"),
        "two rest": (
            header.replace(b"property float opacity", b"property float f_rest_0\nproperty float opacity")
            + b"end_header\n",
            "1 properties f_rest_",
        ),
    }[case]


@pytest.mark.parametrize("case", [
    "nan", "inf", "zero quaternion", "overflow", "truncated", "truncated header", "truncated ascii",
    "words in ascii", "no ply", "point cloud", "mesh first", "compressed", "list property", "bad count",
    "no format", "two rest",
])  # fmt: skip
def test_bad_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    data, words = refused(case)
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        load_ply(tmp_path / "bad.ply")
    assert "bad.ply" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*No such file"):
        load_ply(tmp_path / "none.ply")
