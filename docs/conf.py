"""Sphinx's configuration for this folder: ``make docs`` builds the site into build/docs.

The pages are plain Markdown with relative links, so that they also read well in the repository. Two small extensions
keep them free of Sphinx's own syntax: the navigation is taken from the links of each index.md, and links may leave this
folder. A link to a file elsewhere in the repository leads to a copy of the file; a link to a folder becomes plain text.
"""

from __future__ import annotations

import os
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


class RepositoryLinks(SphinxTransform):
    """A step for links that leave this folder: to a folder they become plain text, to a page a copy of its file."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Keep every other link: one that leads nowhere ends the build."""
        here = Path(self.env.doc2path(self.env.docname)).parent
        for link in list(self.document.findall(addnodes.pending_xref)):
            if link.get("reftype") != "myst":
                continue
            target = str(link["reftarget"])
            if (here / target).is_dir():
                link.replace_self(nodes.inline("", "", *link.children))
            elif posixpath.isabs(target) and Path(f"{target}.md").is_file():
                file = os.path.relpath(f"{target}.md", here)
                link.replace_self(addnodes.download_reference("", "", *link.children, reftarget=file))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the two extensions."""
    app.connect("source-read", add_navigation)
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True}
