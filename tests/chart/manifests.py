"""Everything that the chart and the operator put into a cluster, as files for programs that judge manifests. It must
not know these programs."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from chatbot_operator.actions import Apply
from chatbot_operator.api.generated import REPOSITORY
from tests.support.helm import helm
from tests.support.scenes import Scene, serving

DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGES = ("image", "images.runtime", "images.web", "images.ollama", "images.llamaServer")
VALUES = (
    *(f"{image}.digest={DIGEST}" for image in IMAGES),
    "image.pullPolicy=Always",
    "replicas=2",
    "metrics.dashboard.enabled=true",
)
"""What an administrator who reads the rules sets: images that cannot change under their name, and a standby."""

SETTINGS = {
    "image_pull_policy": "Always",
    **{f"{n}_image": f"registry.example.com/{n}@{DIGEST}" for n in ("runtime", "web", "ollama", "llama_server")},
}
"""The same for what the operator makes."""

ROUNDS = 3
"""A claim comes before the Job that fills it."""

CPU_LIMIT = "a limit on CPU slows answers down while the node idles; memory and disk are limited"


def write(folder: Path) -> list[Path]:
    """A file for the chart and one for each example's children, in the namespace that the example would be in."""
    objects: dict[str, list[dict[str, Any]]] = {"chart": helm("helm").render(*VALUES)}
    for path in sorted((REPOSITORY / "examples").glob("*.yaml")):
        objects[path.stem] = list(children(yaml.safe_load(path.read_text())["spec"]))
    for name, found in objects.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(found))
    return [folder / f"{name}.yaml" for name in objects]


def children(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a Chatbot of this spec has while it comes up, and once it serves; what is free as VALUES has it."""
    wanted, seen = careful(spec), set()
    for scene in (serving(wanted), Scene(wanted)):
        scene.settings = scene.settings.model_copy(update=SETTINGS)
        for _ in range(ROUNDS):
            bodies = [dict(action.body) for action in scene.plan().actions if isinstance(action, Apply)]
            scene.apply()
            for body in bodies:
                named = body["kind"], body["metadata"]["name"]
                if named not in seen:
                    seen.add(named)
                    yield body


def careful(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with what it leaves to the administrator: its own image by digest, and a limit on disk."""
    found: dict[str, Any] = copy.deepcopy(dict(spec))
    for block in ("mock", "hf", "local", "web"):
        resources = found.setdefault(block, {}).setdefault("resources", {})
        for bound, size in (("requests", "64Mi"), ("limits", "256Mi")):
            resources.setdefault(bound, {}).setdefault("ephemeral-storage", size)
    image = (found["local"].get("source") or {}).get("image")
    if image:
        image["reference"] = f"{image['reference'].partition(':')[0]}@{DIGEST}"
        image["pullPolicy"] = "Always"
    return found
