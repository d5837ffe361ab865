"""Compilation of the C++ rasteriser into a shared library with a C ABI, for setup.py and, lazily, for `library`.

Imports nothing but the standard library, because setup.py runs it before the package's dependencies exist.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
_X86 = ("x86_64", "amd64")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-w")
_VARIANT_FLAGS = {
    "variant_avx2.cpp": ("-mavx2", "-mfma"),
    "variant_avx512.cpp": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}


_DIGEST = hashlib.sha256


class BuildError(Exception):
    """The library cannot be built here; the message says why in one line."""


def find_compiler() -> str | None:
    """Find the C++ compiler (`CXX`, else g++, c++, clang++); None if there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def library_name() -> str:
    """File name of the library; it holds a digest of sources, flags and machine, so that a stale one is never used."""
    digest = hashlib.sha256(repr((_FLAGS, _VARIANT_FLAGS, platform.machine())).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"libtokengroups_render_{digest.hexdigest()[:16]}.so"


def is_sealed(library: Path) -> bool:
    """Whether a file ends in the digest of all before it, as `build_library` writes it.

    A file that was cut off or changed is not sealed. Code of such a file would end the process when it is called.
    """
    try:
        content = library.read_bytes() if library.is_file() else b""
    except OSError:
        return False
    size = _DIGEST().digest_size
    return len(content) > size and _DIGEST(content[:-size]).digest() == content[-size:]


def build_library(folder: Path) -> Path:
    """Compile into `folder` and return the library's path. Safe against concurrent builds.

    The digest of the file is added at its end, where loaders do not look.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise BuildError("no C++ compiler found (looked for $CXX, g++, c++ and clang++)")
    x86 = platform.machine().lower() in _X86
    sources = ["dispatch.cpp", "variant_portable.cpp", *(_VARIANT_FLAGS if x86 else ())]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            objects = [_compile(compiler, name, Path(scratch), x86) for name in sources]
            library = Path(scratch) / "library.so"
            _run([compiler, "-shared", "-fopenmp", "-static-libgcc", "-static-libstdc++", *objects, "-o", str(library)])
            with library.open("ab") as file:
                file.write(_DIGEST(library.read_bytes()).digest())
            target = folder / library_name()
            os.replace(library, target)
    except OSError as error:
        raise BuildError(f"cannot write to {folder}: {error}") from error
    return target


def _compile(compiler: str, name: str, scratch: Path, x86: bool) -> str:
    target = scratch / f"{name}.o"
    machine = ("-DTG_X86",) if x86 else ()
    flags = (*_FLAGS, *_VARIANT_FLAGS.get(name, ()), *machine)
    _run([compiler, *flags, "-c", str(SOURCES / name), "-o", str(target)])
    return str(target)


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip()[:200])
        raise BuildError(f"{command[0]} failed: {reason}")
