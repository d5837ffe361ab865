"""SPZ files (Niantic): reader of versions 2 to 4, writer of version 3. `spz_values` has the numbers inside.

Versions 2 and 3 are one gzip stream: a header of 16 bytes, then the values, attribute after attribute. Version 4 is a
header of 32 bytes, a table of sizes, and one zstd stream for each attribute.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.gaussians import half_turn
from tokengroups.io.files import atomic_path
from tokengroups.io.splats.packing import ADVICE, LARGEST_FILE, check_count, check_expansion
from tokengroups.io.splats.spz_values import SpzHeader, attribute_bytes, pack_values, unpack_values
from tokengroups.reading import malformed, read_bytes, shown
from tokengroups.types import Gaussians

MAGIC, GZIP = b"NGSP", b"\x1f\x8b"
_HEADER = struct.Struct("<4sIIBBBB")  # magic, version, number, SH degree, fractional bits, flags, streams of version 4
_TABLE_AT = struct.Struct("<I")
_SIZES = struct.Struct("<QQ")  # packed, unpacked
_WRITTEN, _ZSTD = 3, 4
_VERSIONS = (2, 3, _ZSTD)
_ANTIALIASED = 1  # flag: trained with a filter, which changes nothing that is stored
_MAX_DEGREE, _MAX_FRACTION = 3, 24
_LEVEL = 6  # of gzip's, zlib's own choice: 9 takes up to 13 times as long for files smaller by 0 to 4 %
_LARGEST_WINDOW = 2**27  # bytes of memory of a zstd decoder


def load_spz(path: Path) -> Gaussians:
    """Read the Gaussians, turned to our axes: SPZ has y up and z backward.

    Raises:
        UserError: Unreadable, another version, with extensions, truncated, or zstandard is missing for version 4.
    """
    data = read_bytes(path, ADVICE, LARGEST_FILE)
    zipped = data.startswith(GZIP)
    if not zipped and importlib.util.find_spec("zstandard") is None:
        raise UserError(f"{shown(path)}: SPZ version 4 needs `pip install zstandard`; or convert the file to PLY")
    with malformed(path, ADVICE):
        header, values = _read_gzip(data) if zipped else _read_zstd(data)
        return half_turn(unpack_values(header, values))


def save_spz(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write unbatched Gaussians as version 3, atomically; `pack_values` says what is rounded.

    Raises:
        UserError: Positions or scales beyond the range of the format.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import tokengroups as tg
        >>> from tokengroups.io.splats.spz import load_spz, save_spz
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_spz(Path(folder) / "scene.spz", tg.example_scene().gaussians)
        ...     load_spz(Path(folder) / "scene.spz").means.shape
        torch.Size([613, 3])
    """
    try:
        header, values = pack_values(half_turn(gaussians.detach().to("cpu")))
    except ValueError as error:
        raise UserError(f"{shown(path)}: {error}; write a PLY, or scale the scene") from None
    fields = MAGIC, _WRITTEN, header.count, header.sh_degree, header.fractional_bits, 0, 0
    content = gzip.compress(_HEADER.pack(*fields) + values, _LEVEL, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _read_gzip(data: bytes) -> tuple[SpzHeader, bytes]:
    try:
        decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
        header, _ = _parse_header(decoder.decompress(data, _HEADER.size))
        size = sum(attribute_bytes(header))
        check_expansion(len(data), size)
        values = decoder.decompress(decoder.unconsumed_tail, size) if size else b""
        decoder.decompress(decoder.unconsumed_tail, 1)  # the checksum
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from None
    if len(values) < size:
        raise ValueError("truncated")
    return header, values


def _read_zstd(data: bytes) -> tuple[SpzHeader, bytes]:
    header, streams = _parse_header(data)
    sizes = [size for size in attribute_bytes(header) if size]
    check_expansion(len(data), sum(sizes))
    if streams != len(sizes):
        raise ValueError(f"{streams} streams for {len(sizes)} attributes")
    (table,) = _unpack(_TABLE_AT, data, _HEADER.size)
    start, values = table + streams * _SIZES.size, []
    for index, size in enumerate(sizes):
        packed, unpacked = _unpack(_SIZES, data, table + index * _SIZES.size)
        if unpacked != size or start + packed > len(data):
            raise ValueError("truncated")
        values.append(_inflate(data[start : start + packed], size))
        start += packed
    return header, b"".join(values)


def _inflate(packed: bytes, size: int) -> bytes:
    """Content of a zstd stream that must have this size."""
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(packed) as stream:
            content = stream.read(size + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"damaged: {shown(error)}") from None
    if len(content) != size:
        raise ValueError("truncated")
    return content


def _parse_header(data: bytes) -> tuple[SpzHeader, int]:
    """Header, and the number of streams in version 4."""
    magic, version, count, sh_degree, fractional_bits, flags, streams = _unpack(_HEADER, data, 0)
    if magic != MAGIC:
        raise ValueError("not an SPZ file")
    if version not in _VERSIONS or sh_degree > _MAX_DEGREE:
        raise ValueError(f"version {version} with SH degree {sh_degree}; versions 2 to 4 and degrees 0 to 3 are read")
    if flags & ~_ANTIALIASED or fractional_bits > _MAX_FRACTION:
        raise ValueError(f"flags {flags}, {fractional_bits} fractional bits; extensions are not read")
    check_count(count)
    return SpzHeader(version, count, sh_degree, fractional_bits), streams


def _unpack(layout: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    if offset + layout.size > len(data):
        raise ValueError("truncated")
    return layout.unpack_from(data, offset)
