"""Edit the groups of a scene, like ``tokengroups edit``.

python edit.py scene.safetensors  remove 7  move 3 0.4 0 0  rotate 3 --axis y --degrees 30  -o out.safetensors
"""

from __future__ import annotations

from tokengroups.cli import edit
from tokengroups.cli.main import run_alone

if __name__ == "__main__":
    raise SystemExit(run_alone(edit, "python edit.py"))
