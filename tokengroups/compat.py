"""Makes torchvision importable beside a torch that its binary operators were not built for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # a library's schemas live as long as the object


def prepare_torchvision() -> bool:
    """Declare the operators that `import torchvision` asks for, if its own binary does not provide them.

    PyPI's torchvision is built for the CUDA build of torch. Beside a CPU-only torch its binary fails to load,
    and the import stops at "operator torchvision::nms does not exist"; with it fail `lpips` and all of
    `transformers`, which never call those operators. Their schemas alone cure the import. Call this before
    the first import; it changes nothing where torchvision's own operators load, where it is not installed, or
    the second time.

    Returns:
        Whether the operators had to be declared by this call.
    """
    spec = importlib.util.find_spec("torchvision")
    if _libraries or spec is None or spec.origin is None or _loads_binary(Path(spec.origin).parent):
        return False
    library = torch.library.Library("torchvision", "DEF")
    library.define(_NMS)
    library.define(f"q{_NMS}")
    _libraries.append(library)
    return True


def _loads_binary(folder: Path) -> bool:
    """Load torchvision's operators the way it does itself; loading them twice is harmless."""
    for binary in sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            continue
        return True
    return False
