"""How models of Ollama are named: what `phi` means in full, and where its manifest lies. Pure.

It must not know files, HTTP or where models are fetched from; it needs nothing but the standard library.
"""

import re
from pathlib import PurePosixPath

REGISTRY, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
"""What a name leaves out."""
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HOST = rf"{_PART}(?::[0-9]+)?"
_FULL = re.compile(rf"({_HOST})/({_PART})/({_PART}):({_PART})", re.ASCII)


def full_name(name: str, registry: str = "") -> str:
    """HOST/NAMESPACE/MODEL:TAG. `registry`: the host of names that have none. Raises ValueError."""
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon, if any, stands before a port
        path, tag = name, TAG
    host, namespace, model = registry or REGISTRY, NAMESPACE, path
    match path.split("/"):
        case [first, model] if _is_host(first):
            host = first
        case [namespace, model]:
            pass
        case [host, namespace, model]:
            pass
    full = f"{host}/{namespace}/{model}:{tag}"
    if not _FULL.fullmatch(full):
        raise ValueError(f"{name!r} is no name of a model of Ollama: [[HOST[:PORT]/]NAMESPACE/]MODEL[:TAG]")
    return full


def served_name(name: str, registry: str = "") -> str:
    """What a server calls the model, in its lists too: models of Ollama's own registry have a short name, others none.

    Raises ValueError.
    """
    full = full_name(name, registry)
    return full.removeprefix(f"{REGISTRY}/").removeprefix(f"{NAMESPACE}/") if full.startswith(f"{REGISTRY}/") else full


def manifest_path(full: str) -> PurePosixPath:
    """Where the manifest of a full name lies, below the folder of all models. Raises ValueError."""
    parts = _FULL.fullmatch(full)
    if parts is None:
        raise ValueError(f"{full!r} is no full name of a model of Ollama: HOST[:PORT]/NAMESPACE/MODEL:TAG")
    return PurePosixPath("manifests", *parts.groups())


def _is_host(first: str) -> bool:
    """A namespace has neither dot nor colon."""
    return "." in first or ":" in first
