"""Picture files that Pillow does not write: EXIF of any type, 16-bit colours, TIFFs with large tiles."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

ORIENTATION, EXIF_IFD, FOCAL_35MM = 0x0112, 0x8769, 0xA405
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SSHORT, FLOAT, DOUBLE = 1, 2, 3, 4, 5, 7, 8, 11, 12


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def exif_with(tag: int, kind: int, count: int, payload: bytes, ifd: int | None = None) -> bytes:
    """EXIF data of one tag; `kind` is TIFF's number of its type, `payload` its little-endian value."""
    inner = _directory([(tag, kind, count, payload)], 8 if ifd is None else 26)
    if ifd is not None:  # the first directory points to another one behind it
        inner = _directory([(ifd, LONG, 1, struct.pack("<I", 26))], 8) + inner
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + inner


def deep_png(values: np.ndarray) -> bytes:
    """PNG of 16 bits per channel: uint16 [H, W, C] of 1 to 4 channels."""
    height, width, channels = values.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return png([(b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")])


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_tiff(values: np.ndarray, order: str = "<", compressed: bool = False) -> bytes:
    """TIFF of 16 bits per channel: uint16 [H, W, 3 or 4], in one strip."""
    height, width, channels = values.shape
    tags = {256: [width], 257: [height], 258: [16] * channels, 259: [8 if compressed else 1], 262: [2], 277: [channels]}
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    alpha = {338: [2]} if channels == 4 else {}
    return _tiff(tags | {278: [height]} | alpha, (273, 279), data, order)


def unsigned_tiff(values: np.ndarray) -> bytes:
    """Grey TIFF of unsigned numbers: uint32 [H, W]."""
    height, width = values.shape
    tags = {256: [width], 257: [height], 258: [32], 259: [1], 262: [1], 277: [1], 278: [height], 339: [1]}
    return _tiff(tags, (273, 279), values.astype("<u4").tobytes(), "<")


def tiled_tiff(side: int, tile: int) -> bytes:
    """Black grey TIFF of `side` pixels a side, in one compressed tile of `tile` pixels a side."""
    tags = {256: [side], 257: [side], 258: [8], 259: [8], 262: [1], 277: [1], 322: [tile], 323: [tile]}
    return _tiff(tags, (324, 325), zlib.compress(bytes(tile * tile)), "<")


def _tiff(tags: dict[int, list[int]], place_tags: tuple[int, int], data: bytes, order: str) -> bytes:
    """A TIFF file of its tags, and of the pixels that its last two tags locate."""
    offset_tag, length_tag = place_tags
    wide = (257, 256, 278, offset_tag, length_tag, 322, 323)

    def build(start: int) -> bytes:
        rows = sorted((tags | {offset_tag: [start], length_tag: [len(data)]}).items())
        kinds = {tag: LONG if tag in wide else SHORT for tag, _ in rows}
        entries = [
            (tag, kinds[tag], len(row), struct.pack(f"{order}{len(row)}{'I' if kinds[tag] == LONG else 'H'}", *row))
            for tag, row in rows
        ]
        mark = b"II*\0" if order == "<" else b"MM\0*"
        return mark + struct.pack(f"{order}I", 8) + _directory(entries, 8, order)

    return build(len(build(0))) + data


def _directory(entries: list[tuple[int, int, int, bytes]], start: int, order: str = "<") -> bytes:
    """A TIFF directory at the offset `start`, followed by the values that are longer than four bytes."""
    table, values = b"", b""
    for tag, kind, count, payload in entries:
        place = payload.ljust(4, b"\0")
        if len(payload) > 4:
            place = struct.pack(f"{order}I", start + 6 + 12 * len(entries) + len(values))
            values += payload
        table += struct.pack(f"{order}HHI", tag, kind, count) + place
    return struct.pack(f"{order}H", len(entries)) + table + struct.pack(f"{order}I", 0) + values
