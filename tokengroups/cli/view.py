"""`tokengroups view`: a scene in the browser."""

from __future__ import annotations

import argparse
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.cli.arguments import add_number
from tokengroups.cli.output import counted, note, progress, say
from tokengroups.cli.text import add_text_encoder_option, embedder
from tokengroups.errors import UserError
from tokengroups.reading import shown

if TYPE_CHECKING:
    from tokengroups.types import TokenScene
    from tokengroups.viewer import Looks

HELP = "show a scene in a browser: look around, click its groups, hide them"
EXAMPLES = """\
  %(prog)s scene.safetensors                         # serves the page on this machine until Ctrl-C (extra: view)
  %(prog)s scene.safetensors --html room.html        # writes the page instead
  %(prog)s scene.safetensors --html room.html --photos photos/     # with the photos, small
  %(prog)s large.safetensors --html room.html --max-gaussians 300000
  %(prog)s scene.safetensors --url https://hub.example.org/user/me/proxy/8765/   # through jupyter-server-proxy

The page of --html is one file that holds everything: it opens by a double click, without server or network, also at a
colleague's. Browsers need WebGL 2 (Chrome or Edge 80, Firefox 113, Safari 16.4, or later). The page shows the keys.
From another machine: ssh -L 8765:localhost:8765 THIS_MACHINE, and open http://localhost:8765 there."""
HOST, PORT = "127.0.0.1", 8765
SERVING = ("--host", "--port", "--url", "--text-encoder")
MANY = 300_000  # Gaussians that common graphics cards still draw smoothly
_PAGE_BYTES, _SH_BYTES, _BROWSER_BYTES = 26, 21, 300  # of a Gaussian; the second one for each degree


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("scene", help="scene file")
    parser.add_argument("--html", metavar="FILE", help="write the page to this .html file; no server")
    parser.add_argument("--host", metavar="NAME", help=f"address to serve at (default: {HOST}, this machine only)")
    add_number(parser, "--port", 1, 65535, metavar="N", help=f"port, or the next free one (default: {PORT})")
    url_help = "address at which a proxy (JupyterHub, nginx) shows the page of this port; asks for a token"
    parser.add_argument("--url", metavar="URL", help=url_help)
    add_text_encoder_option(parser)
    photos_help = "the photos of the scene, shown at their cameras (files or folders; found by their names)"
    parser.add_argument("--photos", nargs="+", metavar="PHOTO|DIR", help=photos_help)
    most_help = "show at most N Gaussians, those of largest opacity times area; the scene file keeps all"
    add_number(parser, "--max-gaussians", 1, metavar="N", help=most_help)


def run(args: argparse.Namespace) -> None:
    """Write or serve the page."""
    if args.html is None:
        _serve(args)
    elif options := [name for name in SERVING if getattr(args, name[2:].replace("-", "_")) is not None]:
        raise UserError(f"--html writes the page, and {', '.join(options)} is for serving it; leave one of them out")
    else:
        _write(args)


def _write(args: argparse.Namespace) -> None:
    from tokengroups.io.files import write_text
    from tokengroups.scene import load_scene
    from tokengroups.viewer import pack_scene, page_html
    from tokengroups.viewer.notebook import check_page_name

    path = check_page_name(args.html)
    title = Path(args.scene).stem
    scene = load_scene(args.scene)
    _note_size(scene, args.max_gaussians)
    packed = pack_scene(scene, title, args.max_gaussians, _looks(args, scene))
    page = page_html(packed.data, title)
    write_text(path, page)
    say(f"wrote {path} ({counted(packed.shown, 'Gaussian')}, {len(page) / 1e6:.1f} MB); open it in a browser")


def _serve(args: argparse.Namespace) -> None:
    from tokengroups.viewer import open_session
    from tokengroups.viewer.access import Access, is_loopback, proxy_page
    from tokengroups.viewer.room import Room
    from tokengroups.viewer.server import bind, check_installed, serve

    check_installed()
    host, port = args.host or HOST, args.port or PORT
    page, origin = (None, None) if args.url is None else proxy_page(args.url)
    session = open_session(args.scene)
    _note_size(session.scene, args.max_gaussians)
    room = Room(session, args.max_gaussians, embedder(args.text_encoder), _looks(args, session.scene))
    token = None if is_loopback(host) and page is None else secrets.token_urlsafe(16)
    more = {} if page is None else {"more": 0}  # a proxy looks at one port only
    with bind(host, port, **more) as place:
        taken = place.getsockname()[1]
        if taken != port:
            note(f"port {port} is busy; this is port {taken}")
        if not is_loopback(host):
            note(
                f"with --host {shown(host)} all who reach this machine and have the address below can see and edit the "
                "scene; it travels unencrypted"
            )
        address = (page or f"http://{_url_host(host)}:{taken}/") + (f"?token={token}" if token else "")
        say(f"serving {shown(args.scene)} at {address}  (Ctrl-C ends)")
        serve(room, place, Access(token, origin))


def _url_host(host: str) -> str:
    """The address as a browser takes it."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _looks(args: argparse.Namespace, scene: TokenScene) -> Looks:
    """What the scene looks like, with its photos if they are given or known."""
    from tokengroups.io.scene_photos import find_scene_photos, kept_frames, recorded_photos
    from tokengroups.viewer import look

    provenance, count = scene.provenance, len(scene.cameras.intrinsics)
    if args.photos:
        photos, notes = find_scene_photos(args.photos, provenance, count)
        for message in notes:
            note(message)
        return look(scene, photos, progress)
    frames = kept_frames(args.scene, provenance, count)
    try:
        looks = look(scene, frames, progress)
    except UserError:  # other pictures of the same names
        frames, looks = [], look(scene, (), progress)
    if frames:
        note(f"the photos are those in {shown(frames[0].path.parent)}")
    elif recorded_photos(provenance.get("photos"), count) is not None:
        note("without photos; --photos PHOTO|DIR shows those that the scene was made from")
    return looks


def _note_size(scene: TokenScene, most: int | None) -> None:
    """Say what is left out, and what many Gaussians cost."""
    from tokengroups.spherical_harmonics import sh_degree

    total = len(scene.gaussians.means)
    number = min(most or total, total)
    what = counted(number, "Gaussian")
    if number < total:
        note(f"the page shows {what} of {total:,}, those of largest opacity times area")
    if number > MANY:
        size = number * (_PAGE_BYTES + _SH_BYTES * sh_degree(scene.gaussians.sh.shape[1]))
        note(
            f"{what} make a page of about {size / 1e6:.0f} MB, take about {number * _BROWSER_BYTES / 1e9:.1f} GB in "
            f"the browser, and are slow to draw without a good graphics card; --max-gaussians {MANY} shows the largest"
        )
