"""Vertex tables of PLY files as numpy structured arrays: every bit is kept; memory is bounded by the file's size."""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path
from tokengroups.reading import check_file, malformed, shown

_SCALAR_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_TYPE_NAMES = {code: name for name, code in reversed(_SCALAR_TYPES.items())}  # the older names first
_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_HEADER_LIMIT = 65536
_AGAIN = "get the file again"

# Formats of splats that `io.splats` reads: by suffix, and by what a file begins with.
_SUFFIXES = {".splat": ".splat", ".ksplat": ".ksplat", ".spz": "SPZ", ".sog": "SOG"}
_BEGINNINGS = {b"NGSP": "SPZ", b"PK\x03\x04": "SOG"}
_GZIP = b"\x1f\x8b"
_COMPRESSED = "chunk"  # element that only compressed PLY files have
_ELSEWHERE = "`tokengroups import` reads it, and `tokengroups export` makes a PLY of that"


@dataclass(frozen=True)
class _Element:
    """Element of a header; properties are (name, type), the type None for lists."""

    name: str
    count: int
    properties: list[tuple[str, str | None]] = field(default_factory=list)


def read_table(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the vertices of any PLY, binary or ascii, whose vertices come first and have no lists.

    Raises:
        UserError: Not readable, not such a PLY, truncated, or another format of splats; one line says which.
    """
    path = check_file(path)
    with _opened(path) as (file, layout, elements):
        with malformed(f"{path}: damaged PLY header", _AGAIN):
            if any(element.name == _COMPRESSED for element in elements):
                raise UserError(f"{shown(path)}: a compressed PLY; {_ELSEWHERE}")
            if not elements or elements[0].name != "vertex" or not elements[0].properties:
                raise UserError(f"{shown(path)}: not a 3DGS PLY: it must begin with an element 'vertex'")
            dtype = _dtype(layout, elements[0])
        read = _read_ascii if layout == "ascii" else _read_binary
        return read(path, file, elements[0].count, dtype)


def read_tables(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all elements of a binary PLY without lists, by name; errors as in `read_table`."""
    path = check_file(path)
    with _opened(path) as (file, layout, elements):
        with malformed(f"{path}: damaged PLY header", _AGAIN):
            if layout == "ascii":
                raise ValueError("a compressed PLY in ascii")
            dtypes = [_dtype(layout, element) for element in elements]
        pairs = zip(elements, dtypes, strict=True)
        return {element.name: _read_binary(path, file, element.count, dtype) for element, dtype in pairs}


def write_table(path: str | os.PathLike[str], vertices: np.ndarray) -> None:
    """Write a vertex table as binary little-endian PLY, atomically."""
    names = vertices.dtype.names or ()
    little = vertices.astype([(name, vertices.dtype[name].newbyteorder("<")) for name in names], copy=False)
    properties = "".join(f"property {_TYPE_NAMES[little.dtype[name].str[1:]]} {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n"
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(header.encode("ascii"))
            file.write(np.ascontiguousarray(little).view(np.uint8).data)  # no copy of a large table


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, str, list[_Element]]]:
    """The file at its first row, its layout and its elements."""
    try:
        with path.open("rb") as file:
            lines = _header_lines(path, file)
            with malformed(f"{path}: damaged PLY header", _AGAIN):
                layout, elements = _parse_lines(lines)
            yield file, layout, elements
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {error.strerror}") from error


def _header_lines(path: Path, file: BinaryIO) -> list[str]:
    """Lines between ``ply`` and ``end_header``; the file then stands at the first vertex."""
    start = file.readline(_HEADER_LIMIT)
    if start.strip() != b"ply":
        found = _foreign_format(path, start)
        if found:
            raise UserError(f"{shown(path)}: {found}, no PLY; {_ELSEWHERE}")
        raise UserError(f"{shown(path)}: not a PLY file")
    lines = []
    while file.tell() <= _HEADER_LIMIT:
        line = file.readline(_HEADER_LIMIT)
        if line.strip() == b"end_header":
            return lines
        if not line.endswith(b"\n"):
            break
        lines.append(line.decode("latin-1"))
    raise UserError(f"{shown(path)}: truncated: the PLY header does not end; {_AGAIN}")


def _foreign_format(path: Path, start: bytes) -> str | None:
    """Name of another format of splats, by the file's beginning or suffix."""
    if start.startswith(_GZIP):
        with path.open("rb") as file:
            start = file.read(_HEADER_LIMIT)
        try:
            start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, 16)
        except zlib.error:
            start = b""
    named = next((name for beginning, name in _BEGINNINGS.items() if start.startswith(beginning)), None)
    named = named or _SUFFIXES.get(path.suffix.lower())
    return named and f"the format {named}"


def _dtype(layout: str, element: _Element) -> np.dtype:
    """Type of an element's rows; ValueError for lists."""
    fields = [(name, _FORMATS[layout] + _SCALAR_TYPES[kind]) for name, kind in element.properties if kind]
    if len(fields) < len(element.properties):
        raise ValueError("vertices with lists" if element.name == "vertex" else f"lists in '{element.name}'")
    return np.dtype(fields)


def _parse_lines(lines: list[str]) -> tuple[str, list[_Element]]:
    """Format and elements of a header."""
    layout, elements = "", []
    for line in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, *_] if name in _FORMATS:
                layout = name
            case ["element", name, count] if count.isascii() and count.isdigit():
                elements.append(_Element(name, int(count)))
            case ["property", "list", _, _, name] if elements:
                elements[-1].properties.append((name, None))
            case ["property", kind, name] if elements and kind in _SCALAR_TYPES:
                elements[-1].properties.append((name, kind))
            case _:
                raise ValueError(f"the line '{line.strip()}'")
    if not layout:
        raise ValueError("no line 'format'")
    return layout, elements


def _read_binary(path: Path, file: BinaryIO, count: int, dtype: np.dtype) -> np.ndarray:
    available = _bytes_left(file) // max(dtype.itemsize, 1)
    if available < count:
        raise _truncated(path, count, available)
    return np.fromfile(file, dtype, count)


def _read_ascii(path: Path, file: BinaryIO, count: int, dtype: np.dtype) -> np.ndarray:
    names = dtype.names or ()
    if not count:
        return np.empty(0, dtype)
    if count > _bytes_left(file):  # a row has at least a digit
        raise _truncated(path, count, "fewer")
    with malformed(f"{path}: damaged ascii PLY", _AGAIN), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no rows, and of values that float32 cannot hold: they become infinite
        lines = (line for line in file if line.strip())
        rows = np.loadtxt(lines, np.float64, comments=None, max_rows=count, ndmin=2, encoding="ascii")
        if len(rows) < count or rows.shape[1] < len(names):
            raise _truncated(path, count, len(rows))
        if rows.shape[1] > len(names):
            raise ValueError(f"{rows.shape[1]} values for {len(names)} properties")
        vertices = np.empty(count, dtype)
        for name, values in zip(names, rows.T, strict=True):
            vertices[name] = values
            if dtype[name].kind != "f" and not np.array_equal(vertices[name], values):
                raise ValueError(f"a value of '{name}' is none of its type")
    return vertices


def _bytes_left(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()


def _truncated(path: Path, promised: int, found: int | str) -> UserError:
    return UserError(
        f"{shown(path)}: truncated: the header promises {promised} vertices, the file holds {found}; get it again"
    )
