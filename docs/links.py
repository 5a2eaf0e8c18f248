"""MkDocs' hook: links to folders, or out of docs/, lead to the repository. It must not change anything else.

Pages are read on GitHub too, so that their links are relative; a file that does not exist ends a strict build.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

LOG = logging.getLogger("mkdocs.plugins.links")
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*|[\w./-]+/)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Called by MkDocs with the text of each page."""
    return outside(markdown, page.file.src_uri, Path(config.docs_dir), f"{config.repo_url.rstrip('/')}/blob/main")


def outside(markdown: str, page: str, docs: Path, repository: str) -> str:
    """The text of a page, named by its path below `docs`, with links to folders, or out of that one, made absolute."""

    def led(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page), found[1]))
        if path.startswith(f"{docs.name}/") and not found[1].endswith("/"):
            return found[0]
        if not (docs.parent / path).exists():
            LOG.warning("%s links to %s, which is not in the repository", page, path)
        return f"{repository}/{path}{found[2] or ''}"

    return LINK.sub(led, markdown)
