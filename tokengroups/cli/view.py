"""`tokengroups view`: a scene in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import counted, note, say
from tokengroups.errors import UserError
from tokengroups.reading import shown

HELP = "make a page that shows a scene in a browser: look around, click its groups, hide them"
EXAMPLES = """\
  %(prog)s scene.safetensors --html room.html
  %(prog)s large.safetensors --html room.html --max-gaussians 300000

The page is one file that holds everything: it opens by a double click, without server or network, also at a
colleague's. Browsers need WebGL 2 (Chrome or Edge 80, Firefox 113, Safari 16.4, or later). The page shows the keys."""
MANY = 300_000  # Gaussians that common graphics cards still draw smoothly


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("--html", required=True, metavar="FILE", help="write the page to this .html file")
    most_help = "show at most N Gaussians, those of largest opacity times area; the scene file keeps all"
    add_number(parser, "--max-gaussians", 1, metavar="N", help=most_help)


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    from tokengroups.io.files import check_writable, write_text
    from tokengroups.scene import load_scene
    from tokengroups.viewer import pack_scene, page_html

    path = Path(args.html)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--html {shown(args.html)}: give a file name that ends in .html")
    check_writable(path)
    title = Path(args.scene).stem
    packed = pack_scene(load_scene(args.scene), title, args.max_gaussians)
    page = page_html(packed.data, title)
    write_text(path, page)
    what = counted(packed.shown, "Gaussian")
    if packed.shown < packed.total:
        note(f"the page shows {what} of {packed.total:,}, those of largest opacity times area")
    if packed.shown > MANY:
        note(f"{what} may be slow to draw; --max-gaussians {MANY} shows the largest")
    say(f"wrote {path} ({what}, {len(page) / 1e6:.1f} MB); open it in a browser")
