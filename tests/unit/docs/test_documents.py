"""The pages for people: every command is run or says why not, and no link leads nowhere."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.generated import REPOSITORY
from tests.support.documents import PAGES, PLACES, Fence, anchors, commands, every_fence, fences, links

DOCS = REPOSITORY / "docs"
FENCES = every_fence()


def complaint(fence: Fence) -> str:
    """What is wrong with how a fence is marked."""
    if fence.mark == "run":
        return "" if fence.said in PLACES else f"run: {fence.said} is none of {', '.join(PLACES)}"
    if fence.mark == "tested by":
        path, _, name = fence.said.partition("::")
        if not (REPOSITORY / path).is_file():
            return f"{path} does not exist"
        return "" if f"def {name}" in (REPOSITORY / path).read_text() else f"{path} has no {name}"
    if fence.mark == "not run":
        return "" if len(fence.said.split()) > 2 else "the reason is missing"
    return "it has no mark; see tests/support/documents.py"


def test_every_fence_of_commands_is_run_by_a_test_or_says_why_not() -> None:
    wrong = [f"{fence}: {problem}" for fence in FENCES if (problem := complaint(fence))]
    assert not wrong, "\n".join(wrong)
    assert len([fence for fence in FENCES if fence.mark == "run"]) > 10


def test_a_fence_without_a_mark_or_with_a_wrong_one_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = ["", "<!-- run: there -->\n", "<!-- tested by: tests/none.py -->\n", "<!-- not run: no -->\n"]
    page.write_text("\n".join(f"{mark}```console\n$ true\n```\n" for mark in marks))
    found = list(fences(page))
    assert [fence.line for fence in found] == [1, 6, 11, 16]
    assert all(map(complaint, found))


def test_commands_are_told_from_output_and_comments() -> None:
    block = "$ make up   # brings it in\n   3.3 s control plane\n$ helm install a b \\\n    --set c=d\n\nexport X\n"
    assert list(commands(block)) == ["make up", "helm install a b --set c=d"]


@pytest.mark.parametrize("fence", [f for f in FENCES if (f.mark, f.said) == ("run", "shell")], ids=str)
def test_what_is_typed_in_the_checkout_works(fence: Fence) -> None:
    for command in fence.commands:
        script = f'export PATH="{Path(sys.executable).parent}:$PATH"; {command}'
        ended = subprocess.run(
            ["bash", "-ec", script], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"


def test_targets_of_make_and_files_that_commands_name_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z -]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    known = {name for group in targets for name in group.split()}
    for fence in FENCES:
        for command in fence.commands:
            words = shlex.split(command, comments=True)
            if words[:1] == ["make"]:
                assert words[1] in known, f"{fence}: make {words[1]}"
            for word in words:
                if word.startswith(("examples/", "charts/", "docs/", "tests/")):
                    assert (REPOSITORY / word).exists(), f"{fence}: {word}"


def test_no_link_of_a_page_leads_nowhere() -> None:
    extra = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md")
    pages = [page for page in PAGES if page.parent.name != "performance"] + [REPOSITORY / name for name in extra]
    wrong = []
    for page in pages:
        for path, anchor in links(page):
            target = (page.parent / path).resolve() if path else page
            if not target.exists():
                wrong.append(f"{page.relative_to(REPOSITORY)}: {path}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"{page.relative_to(REPOSITORY)}: {path}#{anchor}")
    assert not wrong, "\n".join(wrong)


def names(entry: Any) -> set[str]:
    if isinstance(entry, str):
        return {entry}
    return {name for part in (entry.values() if isinstance(entry, dict) else entry) for name in names(part)}


def test_every_page_is_in_the_sites_table_of_contents() -> None:
    listed = names(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"])
    there = {str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents}
    fragments = {name for name in there if name.startswith("performance/")}
    assert listed - there == set()
    assert there - fragments - listed <= {"kubectl.md"}


def outside(markdown: str, page: str) -> str:
    spec = importlib.util.spec_from_file_location("links", DOCS / "links.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    found: str = hook.outside(markdown, page, DOCS, "https://example.com/blob/main")
    return found


def test_links_out_of_the_pages_lead_to_the_repository_and_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    text = "[a](../examples/mock.yaml) [b](local.md#the-claim) [c](../bench/README.md#x) [d](https://example.com/)"
    assert outside(text, "local.md") == (
        "[a](https://example.com/blob/main/examples/mock.yaml) [b](local.md#the-claim) "
        "[c](https://example.com/blob/main/bench/README.md#x) [d](https://example.com/)"
    )
    inner = "[a](../troubleshooting.md#x)"
    assert outside(inner, "reference/reasons.md") == inner
    assert not caplog.records
    outside("[a](../nothing.md)", "local.md")
    assert "nothing.md" in caplog.text
