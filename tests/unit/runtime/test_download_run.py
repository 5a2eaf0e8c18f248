"""The order of things in a download: what is fetched, marked, kept, removed, waited for and tried again."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from chatbot_runtime.contract import DownloadReason
from chatbot_runtime.downloads.base import DownloadError, Progress, StoredFile, StoredModel
from chatbot_runtime.downloads.config import DownloadConfig
from chatbot_runtime.downloads.report import ProgressMeter
from chatbot_runtime.downloads.retry import Patience
from chatbot_runtime.downloads.run import Run
from chatbot_runtime.downloads.volume import Volume
from chatbot_runtime.references import is_hf, stored_path
from chatbot_runtime.token_file import TokenFile

HF, OTHER_HF = "hf://org/tiny/tiny.gguf", "hf://org/other/other.gguf"
CONTENT = b"GGUF and so on"


def failure(reason: DownloadReason, retry_after: float | None = None) -> DownloadError:
    return DownloadError(reason, f"made up: {reason}", retry_after)


class Scripted:
    """A source that stores small files, or fails as it is told to."""

    def __init__(self, case: "Case") -> None:
        self._case = case
        self.fails: dict[str, list[DownloadError]] = {}
        self.fetched: list[str] = []
        self.removed: list[str] = []
        self.will_not_remove = False
        self.look: Callable[[], None] = lambda: None

    async def fetch(self, name: str, progress: Progress) -> StoredModel:
        self.fetched.append(name)
        self.look()
        progress.expect(len(CONTENT))
        progress.have(0)
        if failures := self.fails.get(name):
            raise failures.pop(0)
        return self._case.put(name)

    async def remove(self, name: str) -> None:
        self.look()
        if self.will_not_remove:
            raise failure("SourceUnreachable")
        self.removed.append(name)
        (self._case.models / self._case.place(name)).unlink(missing_ok=True)

    async def close(self) -> None:
        pass


class Case:
    """A volume and a scripted source; lists are run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.models.mkdir()
        self.token = folder / "token"
        self.source = Scripted(self)
        self.meter = ProgressMeter("demo", "", [])

    def place(self, name: str) -> PurePosixPath:
        if is_hf(name):
            return stored_path(name)
        model, _, tag = name.partition(":")
        return PurePosixPath("manifests/registry.ollama.ai/library", model, tag or "latest")

    def put(self, name: str) -> StoredModel:
        """A model, as a source stores it."""
        path = self.models / self.place(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        digest = hashlib.sha256(CONTENT).hexdigest()
        return StoredModel(name, f"sha256:{digest}", (StoredFile(Path(self.place(name)), len(CONTENT), digest),))

    def marker(self, list_hash: str) -> Path:
        return self.models / f".complete/{list_hash}.json"

    def lists(self) -> list[str]:
        """The lists that are marked as whole."""
        return sorted(path.stem for path in self.models.glob(".complete/*.json"))

    def files(self) -> list[str]:
        """All but markers and lock."""
        paths = (path.relative_to(self.models) for path in self.models.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in paths if path.parts[0] not in (".complete", ".lock"))

    async def run(self, list_hash: str, *models: str, keep: str = "", **settings: Any) -> tuple[StoredModel, ...]:
        """One download of one list."""
        config = DownloadConfig(
            list_hash=list_hash,
            models=models,
            keep_lists=tuple(filter(None, keep.split(", "))),
            models_dir=self.models,
            token_file=self.token,
            **{"poll_seconds": 0.02, **settings},
        )
        self.meter = ProgressMeter(config.name, config.list_hash, config.models)
        token = TokenFile(config.token_file)
        return await Run(config, Volume(self.models), token, lambda _: self.source, self.meter).run()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


async def test_the_marker_comes_last_and_says_what_is_there(case: Case) -> None:
    case.source.look = lambda: None if case.lists() == [] else pytest.fail("a marker before the end")
    models = await case.run("a1", "phi", "llama3:8b")
    assert [model.name for model in models] == case.source.fetched == ["phi", "llama3:8b"]
    marker = json.loads(case.marker("a1").read_text())
    assert (marker["listHash"], [model["name"] for model in marker["models"]]) == ("a1", ["phi", "llama3:8b"])
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = {"path": case.place("phi").as_posix(), "sizeBytes": len(CONTENT), "sha256": digest}
    expected = {"name": "phi", "digest": f"sha256:{digest}", "sizeBytes": len(CONTENT), "files": [file]}
    assert marker["models"][0] == expected
    assert marker["finishedAt"].endswith("Z")
    assert sorted(path.name for path in (case.models / ".complete").iterdir()) == ["a1.json"]
    status = case.meter.status()
    assert (status.state, status.percent, status.completed_bytes) == ("done", 100, 2 * len(CONTENT))


async def test_a_list_that_is_whole_is_not_fetched_again(case: Case) -> None:
    first = await case.run("a1", "phi", HF)
    case.source.fetched.clear()
    assert await case.run("a1", "phi", HF) == first
    assert case.source.fetched == []
    assert case.meter.status().percent == 100


@pytest.mark.parametrize("harm", ["missing", "longer", "link"])
async def test_a_list_with_a_file_that_is_not_whole_loses_its_marker_before_it_is_mended(case: Case, harm: str) -> None:
    await case.run("a1", "phi", HF)
    path = case.models / case.place(HF)
    path.unlink()
    if harm == "longer":
        path.write_bytes(CONTENT + b"x")
    elif harm == "link":
        (case.models / "elsewhere").write_bytes(CONTENT)
        path.symlink_to(case.models / "elsewhere")
    case.source.fetched.clear()
    case.source.look = lambda: None if case.lists() == [] else pytest.fail("the marker is still there")
    await case.run("a1", "phi", HF)
    assert case.source.fetched == [HF]
    assert case.lists() == ["a1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"listHash": "a1"}',
        b'{"listHash": "b2", "models": [], "finishedAt": "2026-01-01T00:00:00Z"}',
        b'{"listHash": "a1", "models": [{"name": "phi", "digest": "", "sizeBytes": 0, "files": '
        b'[{"path": "../../etc/passwd", "sizeBytes": 1, "sha256": ""}]}], "finishedAt": "2026-01-01T00:00:00Z"}',
        b'{"listHash": "a1", "models": [{"name": "hf://../x", "digest": "", "sizeBytes": 0, "files": []}], '
        b'"finishedAt": "2026-01-01T00:00:00Z"}',
        b'{"listHash": "a1", "models": [{"name": "qwen", "digest": "", "sizeBytes": 0, "files": []}], '
        b'"finishedAt": "2026-01-01T00:00:00Z"}',
        b"{" * 100_000,
    ],
)
async def test_a_damaged_marker_is_as_good_as_none(case: Case, content: bytes) -> None:
    await case.run("a1", "phi")
    case.marker("a1").write_bytes(content)
    case.source.fetched.clear()
    await case.run("a1", "phi")
    assert case.source.fetched == ["phi"]
    assert json.loads(case.marker("a1").read_text())["listHash"] == "a1"


async def test_what_no_list_needs_goes_and_its_marker_goes_first(case: Case) -> None:
    await case.run("a1", "phi", "llama3:8b")
    (case.models / "hf/org/old/main").mkdir(parents=True)
    (case.models / "hf/org/old/main/old.gguf.partial").write_bytes(b"x")
    (case.models / "precious.txt").write_bytes(b"x")
    case.source.look = lambda: None if case.lists() == [] else pytest.fail("a marker outlives its files")
    await case.run("b2", "llama3:8b", "qwen")
    assert case.source.removed == ["phi"]
    assert case.source.fetched == ["phi", "llama3:8b", "qwen"]
    assert case.files() == sorted([*map(str, map(case.place, ("llama3:8b", "qwen"))), "precious.txt"])
    assert sorted(path.name for path in (case.models / ".complete").iterdir()) == ["b2.json"]


async def test_what_a_list_needs_that_still_serves_stays(case: Case) -> None:
    await case.run("a1", HF, "phi")
    await case.run("b2", OTHER_HF, keep="a1")
    assert case.lists() == ["a1", "b2"]
    assert case.files() == sorted(map(str, map(case.place, (HF, "phi", OTHER_HF))))
    await case.run("c3", "phi:latest", keep="b2, c3")
    assert case.lists() == ["b2", "c3"]
    assert case.files() == sorted(map(str, map(case.place, ("phi", OTHER_HF))))
    assert case.source.removed == []


@pytest.mark.parametrize("harm", ["missing", "damaged"])
async def test_nothing_goes_if_it_is_not_known_what_a_serving_list_needs(case: Case, harm: str) -> None:
    await case.run("a1", HF, "phi")
    if harm == "missing":
        case.marker("a1").unlink()
    else:
        case.marker("a1").write_text("{")
    await case.run("b2", OTHER_HF, keep="a1")
    assert case.files() == sorted(map(str, map(case.place, (HF, "phi", OTHER_HF))))


async def test_a_model_that_a_marker_vouches_for_is_not_fetched_again_under_any_name(case: Case) -> None:
    await case.run("a1", HF)
    models = await case.run("b2", f"{HF}@main")
    assert case.source.fetched == [HF]
    assert [model.name for model in models] == [f"{HF}@main"]
    await case.run("c3", "phi")
    await case.run("d4", "phi:latest")
    assert case.source.fetched == [HF, "phi"]


async def test_what_could_not_be_removed_is_removed_by_a_later_download(case: Case) -> None:
    await case.run("a1", "phi")
    case.source.will_not_remove = True
    await case.run("b2", "qwen")
    assert case.lists() == ["b2"]
    case.source.will_not_remove = False
    await case.run("c3", "llama3:8b", keep="b2")
    assert case.source.removed == ["phi"]


async def test_models_of_ollama_wait_for_a_download_that_has_an_ollama(case: Case) -> None:
    await case.run("a1", "phi")
    await case.run("b2", HF)
    assert case.source.removed == []
    await case.run("c3", "qwen")
    assert case.source.removed == ["phi"]


async def test_what_a_list_has_left_that_was_never_whole_goes_too(case: Case) -> None:
    case.source.fails["qwen"] = [failure("ModelNotFound")]
    with pytest.raises(DownloadError):
        await case.run("a1", "phi", "qwen")
    assert case.lists() == []
    await case.run("b2", "llama3:8b")
    assert case.source.removed == ["phi", "qwen"]


@pytest.mark.parametrize("reason", ["TokenRejected", "AccessDenied"])
async def test_a_refusal_is_waited_out_until_the_token_changes(case: Case, reason: DownloadReason) -> None:
    case.token.write_text("hf_first")
    case.source.fails["phi"] = [failure(reason), failure(reason)]
    running = asyncio.create_task(case.run("a1", "phi"))
    for tokens in ("hf_second", "hf_third"):
        count = len(case.source.fetched)
        async with asyncio.timeout(5):
            while case.meter.status().state != "waiting":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        status = case.meter.status()
        assert (status.reason, status.message) == (reason, f"made up: {reason}")
        assert len(case.source.fetched) == max(count, 1)
        case.token.write_text(tokens)
        async with asyncio.timeout(5):
            while len(case.source.fetched) == max(count, 1):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await running
    assert len(case.source.fetched) == 3
    assert case.lists() == ["a1"]


async def test_a_refusal_is_asked_again_after_a_pause_even_with_the_same_token(case: Case) -> None:
    case.source.fails["phi"] = [failure("AccessDenied")] * 5
    await case.run("a1", "phi", refused_seconds=0.03, retries=0)
    assert len(case.source.fetched) == 6


async def test_what_may_pass_is_tried_again_so_many_times(case: Case) -> None:
    case.source.fails["phi"] = [failure("SourceUnreachable", 0.01), failure("DigestMismatch", 0.01)]
    await case.run("a1", "phi", retries=2)
    assert len(case.source.fetched) == 3
    case.source.fails["qwen"] = [failure("SourceUnreachable", 0.01)] * 3
    with pytest.raises(DownloadError, match="made up: SourceUnreachable"):
        await case.run("b2", "qwen", retries=2)
    assert len(case.source.fetched) == 6


@pytest.mark.parametrize("reason", ["ModelNotFound", "StorageFull", "DownloadFailed"])
async def test_what_does_not_pass_is_not_tried_again(case: Case, reason: DownloadReason) -> None:
    case.source.fails["phi"] = [failure(reason)]
    with pytest.raises(DownloadError, match=f"made up: {reason}"):
        await case.run("a1", "phi")
    assert case.source.fetched == ["phi"]
    assert case.lists() == []


def test_pauses_double_and_bytes_won_begin_them_anew() -> None:
    patience = Patience(retries=3)
    assert [patience.pause(failure("SourceUnreachable"), 10) for _ in range(4)] == [1, 2, 4, None]
    patience = Patience(retries=3)
    assert [patience.pause(failure("SourceUnreachable"), 10 * n) for n in range(5)] == [1, 1, 1, 1, 1]
    patience = Patience(retries=3)
    assert [patience.pause(failure("DigestMismatch"), 10 * n) for n in range(1, 5)] == [1, 2, 4, None]
    assert Patience(retries=1).pause(failure("SourceUnreachable", 17), 0) == 17
    assert Patience(retries=100, failed=90).pause(failure("SourceUnreachable"), 0) == 60


async def test_a_volume_that_is_not_there_is_told(case: Case) -> None:
    case.models.rmdir()
    with pytest.raises(DownloadError, match="No such file or directory") as caught:
        await case.run("a1", "phi")
    assert caught.value.reason == "DownloadFailed"
