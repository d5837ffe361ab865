"""Compiles the C++ rasteriser where a compiler is, and marks the wheel as specific to the platform then.

Everything else about the package is in pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

RENDER = Path(__file__).parent / "tokengroups" / "render"
_spec = importlib.util.spec_from_file_location("render_build", RENDER / "build.py")
assert _spec is not None and _spec.loader is not None
render_build = importlib.util.module_from_spec(_spec)  # not through the package, whose dependencies may be missing
_spec.loader.exec_module(render_build)


class BuildPy(build_py):
    """Builds the library beside the modules: in the build folder, or in the source tree for an editable install."""

    def run(self) -> None:
        """Copy the modules, then compile; without a compiler the package works too, only slower."""
        super().run()
        package = RENDER if self.editable_mode else Path(self.build_lib) / "tokengroups" / "render"
        shutil.rmtree(package / "_native", ignore_errors=True)
        try:
            render_build.build_library(package / "_native")
        except render_build.BuildError as error:
            logging.getLogger(__name__).warning("built without the C++ rasteriser: %s", error)


class Package(Distribution):
    """Specific to the platform if there is a compiler."""

    def has_ext_modules(self) -> bool:
        """Whether the wheel will hold compiled code."""
        return render_build.find_compiler() is not None


class BdistWheel(bdist_wheel):
    """A wheel for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """The library has a C ABI of its own and is tied to no Python version."""
        _, _, platform = super().get_tag()
        return "py3", "none", platform


setup(distclass=Package, cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
