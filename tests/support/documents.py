"""The pages for people: their fences with commands, what is said about each, their links. No test logic here.

A fence of commands is marked in the line above it:
    <!-- run: cluster -->           typed on a control plane with the operator at work, in the order of the page
    <!-- run: chart -->             the same on one where the chart is installed, with Helm
    <!-- run: shell -->             typed in the checkout
    <!-- tested by: tests/… -->     that test does the same
    <!-- not run: why -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chatbot_operator.api.generated import REPOSITORY

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (run|tested by|not run): (.+?) -->\n\Z")
PLACES = ("cluster", "chart", "shell")
SHELLS = {"console", "bash", "sh", "shell", "dockerfile"}
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "charts/chatbot-operator/README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


@dataclass(frozen=True)
class Fence:
    """One block of commands. `mark` is run, tested by, not run or empty; `said` what follows it."""

    page: Path
    line: int
    commands: tuple[str, ...]
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def fences(page: Path) -> Iterator[Fence]:
    """The fences of a page that a reader would type."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        if found[1] in SHELLS:
            marked = MARK.search(text, 0, found.start())
            mark, said = (marked[1], marked[2]) if marked else ("", "")
            line = text.count("\n", 0, found.start()) + 1
            yield Fence(page, line, tuple(commands(found[2])), mark, said)


def commands(block: str) -> Iterator[str]:
    """What follows a prompt, continued lines included; output is left out, and so are comments."""
    joined = re.sub(r"\\\n\s*", "", block)
    for line in joined.splitlines():
        if line.startswith("$ "):
            yield re.sub(r"\s{2,}# .*", "", line[2:])


def every_fence() -> list[Fence]:
    return [fence for page in PAGES for fence in fences(page)]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as GitHub and MkDocs make it."""
    text = FENCE.sub("", page.read_text())
    found = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def links(page: Path) -> list[tuple[str, str]]:
    """Paths and anchors that the page links to within the repository."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text)
    return [(path, anchor) for path, anchor in found if not path.startswith(("http:", "https:", "mailto:"))]
