"""Writers of packed splat files, Gaussian by Gaussian, as the formats' own programs write them: oracles of readers."""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

REST = (3, 5, 7)  # coefficients of degrees 1 to 3


def random_gaussians(count: int = 200, degree: int = 1, seed: int = 0) -> Gaussians:
    """Gaussians whose colours and SH are inside of what every packed format holds."""
    rng = torch.Generator().manual_seed(seed)
    constant = (torch.rand(count, 1, 3, generator=rng) - 0.5) / SH_C0
    rest = 1.8 * torch.rand(count, (degree + 1) ** 2 - 1, 3, generator=rng) - 0.9
    return Gaussians(
        means=torch.randn(count, 3, generator=rng) * torch.tensor([1.0, 2.0, 3.0]),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=1),
        scales=(torch.randn(count, 3, generator=rng) - 3).exp(),
        opacities=torch.rand(count, generator=rng),
        sh=torch.cat([constant, rest], dim=1),
    )


def rows(gaussians: Gaussians) -> list[tuple[list[float], list[float], list[float], float, list[list[float]]]]:
    """Mean, quaternion wxyz of length 1, scales, opacity and SH of every Gaussian."""
    quats = torch.nn.functional.normalize(gaussians.quats.double(), dim=1)
    parts = (gaussians.means, quats, gaussians.scales, gaussians.opacities, gaussians.sh)
    return list(zip(*(part.double().tolist() for part in parts), strict=True))


def byte(value: float) -> int:
    return min(max(round(value), 0), 255)


def color_bytes(sh: list[list[float]], opacity: float) -> bytes:
    return bytes([*(byte(255 * (0.5 + SH_C0 * c)) for c in sh[0]), byte(255 * opacity)])


def smaller_three(quat: list[float]) -> tuple[int, list[float]]:
    """Place of the largest component, and the others, of the quaternion whose largest one is positive."""
    largest = max(range(4), key=lambda i: abs(quat[i]))
    sign = -1 if quat[largest] < 0 else 1
    return largest, [sign * quat[i] for i in range(4) if i != largest]


def write_splat(path: Path, gaussians: Gaussians) -> None:
    content = b""
    for mean, quat, scale, opacity, sh in rows(gaussians):
        content += struct.pack("<6f", *mean, *scale) + color_bytes(sh, opacity)
        content += bytes(byte(128 * q + 128) for q in quat)
    path.write_bytes(content)


def write_ksplat(path: Path, gaussians: Gaussians, level: int, degree: int = 1, bucket: int = 64) -> None:
    """Two sections of equal size; the first one has room for 5 Gaussians more."""
    everything = rows(gaussians)
    half = len(everything) // 2
    parts = [everything[:half], everything[half:]]
    header = bytearray(4096)
    struct.pack_into("<BBxxIIIIH", header, 0, 0, 1, 2, 2, len(everything) + 5, len(everything), level)
    struct.pack_into("<2f", header, 36, -1.0, 1.0)
    headers, bodies = b"", b""
    for part, spare in zip(parts, (5, 0), strict=True):
        section, body = ksplat_section(part, level, degree, bucket, spare)
        headers, bodies = headers + section, bodies + body
    path.write_bytes(bytes(header) + headers + bodies)


def ksplat_section(part: list, level: int, degree: int, bucket: int, spare: int) -> tuple[bytes, bytes]:
    side, steps = 40.0, 32767
    full = len(part) // bucket
    sizes = [7, len(part) - full * bucket - 7] if level else []
    owners = [i // bucket for i in range(full * bucket)] + [full] * 7 + [full + 1] * (len(part) - full * bucket - 7)
    centres = [(0.25 * b, -0.5 * b, 0.125 * b) for b in range(full + 2)] if level else []
    header = bytearray(1024)
    counts = (len(part), len(part) + spare, bucket if level else 0, len(centres))
    struct.pack_into("<IIIIfH", header, 0, *counts, side if level else 0, 12 if level else 0)
    struct.pack_into("<III", header, 24, steps if level else 0, 0, full if level else 0)
    struct.pack_into("<IH", header, 36, len(sizes), degree)
    body = struct.pack(f"<{len(sizes)}I", *sizes) + b"".join(struct.pack("<3f", *centre) for centre in centres)
    size = 0
    for (mean, quat, scale, opacity, sh), owner in zip(part, owners, strict=True):
        rest, first = [], 1
        for width in REST[:degree]:
            rest += [sh[first + i][channel] for channel in range(3) for i in range(width)]
            first += width
        if level:
            steps_ = [round((mean[a] - centres[owner][a]) / (side / 2) * steps + steps) for a in range(3)]
            row = struct.pack("<3H", *steps_) + struct.pack("<7e", *scale, *quat)
        else:
            row = struct.pack("<10f", *mean, *scale, *quat)
        row += color_bytes(sh, opacity)
        row += (
            struct.pack(f"<{len(rest)}{'fe'[level]}", *rest)
            if level < 2
            else bytes(byte(127.5 * (v + 1)) for v in rest)
        )
        body, size = body + row, len(row)
    return bytes(header), body + bytes(spare * size)


def write_compressed_ply(path: Path, gaussians: Gaussians, colors: bool = True) -> None:
    everything = rows(gaussians)
    chunks, vertices, higher = b"", b"", b""
    for start in range(0, len(everything), 256):
        part = everything[start : start + 256]
        tables = [[mean for mean, *_ in part], [[math.log(s) for s in scale] for _, _, scale, *_ in part]]
        tables += [[[0.5 + SH_C0 * c for c in sh[0]] for *_, sh in part]] if colors else []
        ends = [[[min(v[a] for v in t) for a in range(3)], [max(v[a] for v in t) for a in range(3)]] for t in tables]
        chunks += struct.pack(f"<{6 * len(tables)}f", *(v for low, high in ends for v in (*low, *high)))
        for i, (_, quat, _, opacity, sh) in enumerate(part):
            fractions = [
                [(t[i][a] - low[a]) / (high[a] - low[a]) for a in range(3)]
                for t, (low, high) in zip(tables, ends, strict=True)
            ]
            rgb = fractions[2] if colors else [0.5 + SH_C0 * c for c in sh[0]]
            largest, others = smaller_three(quat)
            rotation = largest << 30
            for shift, value in zip((20, 10, 0), others, strict=True):
                rotation |= round((value / math.sqrt(2) + 0.5) * 1023) << shift
            color = byte(255 * rgb[0]) << 24 | byte(255 * rgb[1]) << 16 | byte(255 * rgb[2]) << 8 | byte(255 * opacity)
            vertices += struct.pack("<4I", packed_111011(fractions[0]), rotation, packed_111011(fractions[1]), color)
            rest = [sh[s][channel] for channel in range(3) for s in range(1, len(sh))]
            higher += bytes(min(max(int((v / 8 + 0.5) * 256), 0), 255) for v in rest)
    names = [f"{end}_{axis}" for end in ("min", "max") for axis in "xyz"]
    names += [f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz"]
    names += [f"{end}_{axis}" for end in ("min", "max") for axis in "rgb"] if colors else []
    header = f"ply\nformat binary_little_endian 1.0\nelement chunk {-(-len(everything) // 256)}\n"
    header += "".join(f"property float {name}\n" for name in names)
    header += f"element vertex {len(everything)}\n"
    header += "".join(f"property uint packed_{what}\n" for what in ("position", "rotation", "scale", "color"))
    if higher:
        header += f"element sh {len(everything)}\n"
        header += "".join(f"property uchar f_rest_{i}\n" for i in range(len(higher) // len(everything)))
    path.write_bytes(f"{header}end_header\n".encode() + chunks + vertices + higher)


def packed_111011(values: list[float]) -> int:
    return round(values[0] * 2047) << 21 | round(values[1] * 1023) << 11 | round(values[2] * 2047)


def sog_files(gaussians: Gaussians, bands: int = 1) -> dict[str, bytes]:
    """Files of an unpacked SOG: codebooks of 256 equal steps, a palette with a set for every Gaussian."""
    everything = rows(gaussians)
    width = 20
    height = -(-len(everything) // width)
    pixels = {
        name: np.zeros((height * width, 4), np.uint8) for name in ("means_l", "means_u", "scales", "quats", "sh0")
    }
    labels = np.zeros((height * width, 4), np.uint8)
    coefficients = (bands + 1) ** 2 - 1
    centroids = np.zeros((-(-len(everything) // 64), 64 * coefficients, 4), np.uint8)
    for table in (*pixels.values(), labels, centroids):
        table[..., 3] = 255
    logs = [[math.copysign(math.log1p(abs(v)), v) for v in mean] for mean, *_ in everything]
    low, high = [min(v[a] for v in logs) for a in range(3)], [max(v[a] for v in logs) for a in range(3)]
    books = {"scales": np.linspace(-8, 2, 256), "sh0": np.linspace(-2, 2, 256), "shN": np.linspace(-1, 1, 256)}
    code = lambda name, value: int(np.abs(books[name] - value).argmin())  # noqa: E731
    for i, (_, quat, scale, opacity, sh) in enumerate(everything):
        steps = [round((logs[i][a] - low[a]) / (high[a] - low[a]) * 65535) for a in range(3)]
        pixels["means_l"][i, :3], pixels["means_u"][i, :3] = [s & 255 for s in steps], [s >> 8 for s in steps]
        pixels["scales"][i, :3] = [code("scales", math.log(s)) for s in scale]
        largest, others = smaller_three(quat)
        pixels["quats"][i] = [*(byte(255 * (v * math.sqrt(2) + 1) / 2) for v in others), 252 + largest]
        pixels["sh0"][i] = [*(code("sh0", c) for c in sh[0]), byte(255 * opacity)]
        labels[i, :2] = i & 255, i >> 8
        for s in range(coefficients):
            centroids[i // 64, i % 64 * coefficients + s, :3] = [code("shN", c) for c in sh[1 + s]]
    pictures = {name: table.reshape(height, width, 4) for name, table in pixels.items()}
    pictures |= {"shN_centroids": centroids, "shN_labels": labels.reshape(height, width, 4)} if bands else {}
    meta = {
        "version": 2,
        "count": len(everything),
        "means": {"mins": low, "maxs": high, "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": books["scales"].tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": books["sh0"].tolist(), "files": ["sh0.webp"]},
    }
    files = ["shN_centroids.webp", "shN_labels.webp"]
    if bands:
        meta["shN"] = {"count": len(everything), "bands": bands, "codebook": books["shN"].tolist(), "files": files}
    return {"meta.json": json.dumps(meta).encode(), **{f"{name}.webp": webp(table) for name, table in pictures.items()}}


def webp(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, exact=True)
    return stream.getvalue()


def write_sog(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
