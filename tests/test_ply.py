"""3DGS PLY: bit-exact round trips, gsplat's writer as oracle, tolerant reading, files that are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import tolerance

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh
from tokengroups.io.ply import (
    QUATS,
    RGB,
    gaussians_from_vertices,
    load_ply,
    read_vertices,
    save_ply,
    vertices_from_gaussians,
    write_vertices,
)
from tokengroups.io.ply_table import read_table
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
    spoiled = {  # names of columns, value, words
        "nan": (["y"], np.nan, "NaN or infinite values"),
        "inf": (["f_dc_1"], -np.inf, "NaN or infinite values"),
        "nan opacity": (["opacity"], np.nan, "NaN or infinite values"),
        "infinite scale": (["scale_1"], np.inf, "NaN or infinite values"),
        "overflow": (["scale_0"], 100, "NaN or infinite values"),
        "huge": (["x"], 1e20, "values beyond 1e.09"),
        "zero quaternion": (list(QUATS), 0, "a quaternion of length 0"),
        "tiny quaternion": (list(QUATS), 1e-30, "a quaternion of length 0"),
    }
    if case in spoiled:
        names, value, words = spoiled[case]
        for name in names:
            vertices[name][3] = value
        return header + b"end_header\n" + vertices.tobytes(), f"1 of 256 Gaussians hold {words}; .*--drop-invalid"
    words = "truncated: the header promises 256 vertices, the file holds 255"
    return {
        "truncated": (data[:-1], words),
        "truncated header": (data[:100], "the PLY header does not end"),
        "truncated ascii": (header.replace(b"binary_little_endian", b"ascii") + b"end_header\n1 2", "truncated"),
        "words in ascii": (
            header.replace(b"binary_little_endian", b"ascii") + b"end_header\n" + 256 * b"a b\n",
            "damaged ascii",
        ),
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
            + b"end_header\n"
            + bytes(4 * 256)
            + body,
            "1 properties f_rest_",
        ),
    }[case]


@pytest.mark.parametrize("case", [
    "nan", "inf", "nan opacity", "infinite scale", "overflow", "huge", "zero quaternion", "tiny quaternion",
    "truncated", "truncated header", "truncated ascii", "words in ascii", "no ply", "point cloud", "mesh first",
    "compressed", "list property", "bad count", "no format", "two rest",
])  # fmt: skip
def test_bad_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    data, words = refused(case)
    (tmp_path / "bad.ply").write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        load_ply(tmp_path / "bad.ply")
    assert "bad.ply" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*there is no such file"):
        load_ply(tmp_path / "none.ply")


# --- values, headers and types of other programs --------------------------------------------------------------------


def test_infinite_logits_and_logarithms_are_exact_opacities_and_scales(tmp_path: Path) -> None:
    vertices = vertices_from_gaussians(random_gaussians(4, 0))
    vertices["opacity"] = [np.inf, -np.inf, 0, 200]
    vertices["scale_1"] = [0, -np.inf, np.log(2), -1000]
    write_vertices(tmp_path / "a.ply", vertices)
    gaussians = load_ply(tmp_path / "a.ply")
    assert gaussians.opacities.tolist() == [1, 0, 0.5, 1] and gaussians.scales[:, 1].tolist() == [1, 0, 2, 0]
    save_ply(tmp_path / "b.ply", gaussians)
    written, again = read_vertices(tmp_path / "b.ply"), load_ply(tmp_path / "b.ply")
    assert all(np.isfinite(written[name]).all() for name in written.dtype.names or ())
    assert torch.equal(again.opacities, gaussians.opacities) and torch.equal(again.scales, gaussians.scales)


def with_header(path: Path, change: dict[bytes, bytes], vertices: np.ndarray, line_end: bytes = b"\n") -> Path:
    """A binary PLY whose header is changed."""
    write_vertices(path, vertices)
    header, body = path.read_bytes().split(b"end_header\n")
    for old, new in change.items():
        assert old in header
        header = header.replace(old, new)
    path.write_bytes((header + b"end_header\n").replace(b"\n", line_end) + body)
    return path


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "comment",
    [
        b"comment the end_header comes later\n",
        b"comment end_header\n",
        b"comment\n",
        b"obj_info end_header\n",
        b"obj_info num_cols 5\n",
        b"\n",
    ],
)
def test_comments_do_not_end_the_header(comment: bytes, line_end: bytes, tmp_path: Path) -> None:
    vertices = vertices_from_gaussians(random_gaussians(3, 1))
    vertices["x"] = [13, 10, 2573]  # whose bytes hold line ends
    path = with_header(tmp_path / "a.ply", {b"element": comment + b"element"}, vertices, line_end)
    assert np.array_equal(read_vertices(path), vertices)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({b"vertex 3": b"vertex 9223372036854775808"}, "truncated: the header promises 9223372036854775808 vertices"),
        ({b"vertex 3": b"vertex 4"}, "truncated: the header promises 4 vertices, the file holds 3"),
        ({b"vertex 3": b"vertex -3"}, "damaged PLY header: .*element vertex -3"),
        ({b"vertex 3": "vertex ٣".encode()}, "damaged PLY header"),
        ({b"vertex 3": b"vertex 3.0"}, "damaged PLY header"),
        ({b"float y": b"float x"}, "damaged PLY header: .*'x' occurs more than once"),
        ({b"float y": b"half y"}, "damaged PLY header: .*property half y"),
        ({b"float y": b"float"}, "damaged PLY header"),
        ({b"property float y": b"propertz float y"}, "damaged PLY header: .*propertz float y"),
        ({b"binary_little_endian": b"binary_middle_endian"}, "damaged PLY header"),
        ({b"element vertex 3\n": b""}, "damaged PLY header"),
        ({b"element vertex 3\n": b"element vertex 3\nproperty list uchar int ids\n"}, "vertices with lists"),
        ({b"ply\n": b"plyx\n"}, "not a PLY file"),
        ({b"format": b"comment \x1b[31m\x07\nformat", b"vertex 3": b"vertex \x1b[31m"}, r"vertex \\x1b\[31m"),
        ({b"ply\n": b"ply\n" + b"comment long\n" * 6000}, "the PLY header does not end"),
    ],
)
def test_damaged_headers_are_refused(change: dict[bytes, bytes], words: str, tmp_path: Path) -> None:
    path = with_header(tmp_path / "bad.ply", change, vertices_from_gaussians(random_gaussians(3, 0)))
    with pytest.raises(UserError, match=words) as caught:
        read_vertices(path)
    assert str(caught.value).isprintable()


def ascii_ply(path: Path, count: object, fields: str, body: str) -> Path:
    properties = "".join(f"property {field.replace(':', ' ')}\n" for field in fields.split())
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex {count}\n{properties}end_header\n{body}")
    return path


def test_ascii_values_are_read_exactly(tmp_path: Path) -> None:
    path = ascii_ply(
        tmp_path / "a.ply", 2, "double:x float:y uchar:red int:n", "0.1 nan 255 -7\n\n 1e300 -inf 0 7 \n3 3 3\n"
    )
    table = read_table(path)
    assert table["x"].tolist() == [0.1, 1e300] and table["red"].tolist() == [255, 0] and table["n"].tolist() == [-7, 7]
    assert np.isnan(table["y"][0]) and table["y"][1] == -np.inf
    assert len(read_table(ascii_ply(tmp_path / "b.ply", 0, "float:x", ""))) == 0


@pytest.mark.parametrize(
    ("count", "body", "words"),
    [
        (9223372036854775808, "1 2\n", "truncated: the header promises 9223372036854775808 vertices"),
        (10**30, "1 2\n", "truncated"),
        (3, "1 2\n1 2\n", "truncated: the header promises 3 vertices, the file holds 2"),
        (1, "", "truncated"),
        (2, "1 2\n1 2 3\n", "damaged ascii PLY"),
        (2, "1 2 3\n1 2 3\n", "damaged ascii PLY: .*3 values for 2 properties"),
        (1, "1 two\n", "damaged ascii PLY"),
        (1, "1 256\n", "damaged ascii PLY: .*'red' is none of its type"),
        (1, "1 -1\n", "none of its type"),
        (1, "1 2.5\n", "none of its type"),
        (1, "1 nan\n", "none of its type"),
        (1, "1 2\x00\n", "damaged ascii PLY"),
        (1, "1 ²\n", "damaged ascii PLY"),
    ],
)
def test_damaged_ascii_is_refused(count: int, body: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_table(ascii_ply(tmp_path / "a.ply", count, "float:x uchar:red", body))
    assert str(caught.value).isprintable()


def test_colours_in_bytes_become_harmonics(tmp_path: Path) -> None:
    gaussians = random_gaussians(3, 0)
    vertices = vertices_from_gaussians(gaussians)
    colors = np.array([[255, 0, 51], [0, 128, 255], [1, 2, 3]], np.uint8)
    names = [name for name in vertices.dtype.names or () if not name.startswith("f_dc")]
    table = np.zeros(3, [*((name, "<f4") for name in names), *((name, "|u1") for name in RGB)])
    for name in names:
        table[name] = vertices[name]
    for channel, name in enumerate(RGB):
        table[name] = colors[:, channel]
    write_vertices(tmp_path / "a.ply", table)
    loaded = load_ply(tmp_path / "a.ply")
    expected = torch.from_numpy(colors / 255).float()
    torch.testing.assert_close(color_from_sh(loaded.sh), expected, **tolerance("float32"))
    assert loaded.sh.shape == (3, 1, 3) and torch.equal(loaded.means, gaussians.means)


def test_flat_gaussians_without_a_third_scale_are_read(tmp_path: Path) -> None:
    gaussians = random_gaussians(5, 1)
    vertices = vertices_from_gaussians(gaussians)
    names = [name for name in vertices.dtype.names or () if name != "scale_2"]
    write_vertices(tmp_path / "a.ply", vertices[names].astype([(name, "<f4") for name in names]))
    loaded = load_ply(tmp_path / "a.ply")
    torch.testing.assert_close(loaded.scales[:, :2], gaussians.scales[:, :2], **tolerance("float32"))
    assert loaded.scales[:, 2].tolist() == [0] * 5 and torch.equal(loaded.quats, gaussians.quats)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.splat", bytes(64), "the format .splat, no PLY"),
        ("a.ksplat", bytes(4096), "the format .ksplat, no PLY"),
        ("a.spz", gzip.compress(b"NGSP" + bytes(12), mtime=0), "the format SPZ, no PLY"),
        ("a.bin", gzip.compress(b"NGSP" + bytes(12), mtime=0), "the format SPZ, no PLY"),
        ("a.ply", b"NGSP" + bytes(12), "the format SPZ, no PLY"),
        ("a.sog", b"PK\x03\x04" + bytes(26), "the format SOG, no PLY"),
        ("a.PLY", b"ply\nformat binary_little_endian 1.0\nelement chunk 1\nend_header\n", "a compressed PLY"),
    ],
)
def test_other_formats_are_named_with_the_command_that_reads_them(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{words}; `tokengroups import` reads it"):
        load_ply(tmp_path / name)


def test_no_other_format_is_seen_in_what_is_none(tmp_path: Path) -> None:
    for content in (b"", b"\x1f\x8b", gzip.compress(b"text", mtime=0), b"plyformat", b"\x00" * 100):
        (tmp_path / "a.ply").write_bytes(content)
        with pytest.raises(UserError, match="a.ply: not a PLY file$"):
            load_ply(tmp_path / "a.ply")
