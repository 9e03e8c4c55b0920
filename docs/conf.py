"""Sphinx's configuration for this folder: ``make docs`` builds the site into build/docs.

The pages are plain Markdown with relative links, so that they also read well in the repository. Two small extensions
keep them free of Sphinx's own syntax: the navigation is taken from the links of each index.md, and a link to a folder
of the repository, which the site does not have, becomes plain text. A link to a file that is no page is served as a
copy of the file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

project = "Punway"
html_title = "Punway"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
templates_path: list[str] = []
html_static_path = ["site"]
html_css_files = ["site.css"]

extensions = ["myst_parser"]
myst_heading_anchors = 4
highlight_language = "none"
nitpicky = True

_LIST_LINK = re.compile(r"^\s*[-*|] +\[[^\]]+\]\(([\w./-]+\.md)\)", re.MULTILINE)


def add_navigation(_: Sphinx, docname: str, source: list[str]) -> None:
    """Append a hidden table of contents to an index page: the pages that its lists and tables link to, in order."""
    if posixpath.basename(docname) != "index":
        return
    entries = "\n".join(dict.fromkeys(_LIST_LINK.findall(source[0])))
    source[0] += f"\n\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"


class FolderLinks(SphinxTransform):
    """A step that replaces links to folders of the repository by their text."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Keep every other link: one that leads nowhere ends the build."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftype") == "myst" and (here / str(link["reftarget"])).is_dir():
                link.replace_self(nodes.inline("", "", *link.children))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two extensions."""
    app.connect("source-read", add_navigation)
    app.add_transform(FolderLinks)
    return {"parallel_read_safe": True}
