"""Names of models on the Hugging Face Hub, and where their files lie in a folder of models. Pure.

Shared by operator and runtime, so it must import nothing but the standard library; it must not know HTTP or volumes.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

SCHEME = "hf://"
FOLDER = "hf"
"""Below the folder of all models; everything in it was downloaded from the Hub."""
MAIN = "main"
MAX_WORD = 200
"""Characters of one word of a name: a file system takes 255 bytes, and a file on its way has a longer name."""
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FILE = r"[A-Za-z0-9_][A-Za-z0-9 ._-]*"
_NAME = re.compile(
    rf"hf://(?P<owner>{_WORD})/(?P<repo>{_WORD})/(?P<path>(?:{_FILE}/)*{_FILE}[.]gguf)"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?"
)
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})[.]gguf")


@dataclass(frozen=True, slots=True)
class HfReference:
    """A GGUF file in a repository of the Hub. `revision`: a branch, a tag or a commit."""

    owner: str
    repo: str
    path: str
    revision: str = MAIN

    @property
    def repository(self) -> str:
        """As the Hub names it."""
        return f"{self.owner}/{self.repo}"

    @property
    def paths(self) -> tuple[str, ...]:
        """All files of the model, the one that an engine opens first: a split model has one for each part."""
        part = _PART.fullmatch(self.path)
        if part is None or not 1 <= int(part["number"]) <= int(part["count"]):
            return (self.path,)
        return tuple(
            f"{part['stem']}-{number:05}-of-{part['count']}.gguf" for number in range(1, int(part["count"]) + 1)
        )

    @property
    def places(self) -> tuple[PurePosixPath, ...]:
        """Where `paths` lie, below the folder of all models."""
        folder = PurePosixPath(FOLDER, self.owner, self.repo, self.revision.replace("/", "%2F"))
        return tuple(folder / path for path in self.paths)


def is_hf(name: str) -> bool:
    """Whether a model's name is one of the Hub."""
    return name.startswith(SCHEME)


def parse_hf(reference: str) -> HfReference:
    """The parts of `hf://owner/repo/path/file.gguf[@revision]`. Raises ValueError with what is wrong."""
    found = _NAME.fullmatch(reference)
    if found is None or ".." in reference:
        raise ValueError("it must be hf://owner/repo/path/file.gguf, perhaps with @revision, and without '..'")
    if any(len(word) > MAX_WORD for word in re.split("[/@]", reference)):
        raise ValueError(f"no word of it may be longer than {MAX_WORD} characters")
    if len(found["revision"] or "") > MAX_WORD:
        raise ValueError(f"its revision may not be longer than {MAX_WORD} characters")
    return HfReference(found["owner"], found["repo"], found["path"], found["revision"] or MAIN)


def stored_path(reference: str) -> PurePosixPath:
    """The file that an engine opens for a reference, below the folder of all models. Raises ValueError."""
    return parse_hf(reference).places[0]
