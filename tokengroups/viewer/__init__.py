"""Look at a scene in a browser: packed scenes, the page that draws them, and sessions that edit them."""

from tokengroups.viewer.looks import Looks as Looks
from tokengroups.viewer.looks import look as look
from tokengroups.viewer.notebook import View as View
from tokengroups.viewer.notebook import view as view
from tokengroups.viewer.pack import MAX_GROUPS as MAX_GROUPS
from tokengroups.viewer.pack import PackedScene as PackedScene
from tokengroups.viewer.pack import pack_scene as pack_scene
from tokengroups.viewer.page import page_html as page_html
from tokengroups.viewer.session import FileExists as FileExists
from tokengroups.viewer.session import Session as Session
from tokengroups.viewer.session import StaleVersion as StaleVersion
from tokengroups.viewer.session import open_session as open_session

__all__ = [
    "MAX_GROUPS",
    "FileExists",
    "Looks",
    "PackedScene",
    "Session",
    "StaleVersion",
    "View",
    "look",
    "open_session",
    "pack_scene",
    "page_html",
    "view",
]
