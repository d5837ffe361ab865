"""Workaround that makes torchvision importable beside a torch that it was not built for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # a library's schemas live as long as the object


def prepare_torchvision() -> bool:
    """Declare the operators that `import torchvision` asks for, if its own binary does not provide them.

    PyPI's torchvision is built for the CUDA build of torch. Beside a CPU-only torch its import fails with "operator
    torchvision::nms does not exist", and with it that of `lpips` and `transformers`, which never call the operator.
    Call this before the first import. It does nothing where torchvision's own operators load, where torchvision is not
    installed, or the second time.

    Returns:
        True if this call declared the operators.
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
    """Load torchvision's operators as torchvision does; loading them twice is harmless."""
    for binary in sorted(folder.glob("_C*.so")) + sorted(folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(str(binary))
        except OSError:
            continue
        return True
    return False
