"""Names of models on the Hub, and where their files lie."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.references import HfReference, is_hf, parse_hf, stored_path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("reference", "parts", "place"),
    [
        ("hf://org/tiny/tiny.gguf", ("org", "tiny", "tiny.gguf", "main"), "hf/org/tiny/main/tiny.gguf"),
        ("hf://o.r-g/t_1/q4/a b.gguf@v1.0", ("o.r-g", "t_1", "q4/a b.gguf", "v1.0"), "hf/o.r-g/t_1/v1.0/q4/a b.gguf"),
        (f"hf://org/tiny/x.gguf@{COMMIT}", ("org", "tiny", "x.gguf", COMMIT), f"hf/org/tiny/{COMMIT}/x.gguf"),
        (
            "hf://org/tiny/x.gguf@refs/pr/1",
            ("org", "tiny", "x.gguf", "refs/pr/1"),
            "hf/org/tiny/refs%2Fpr%2F1/x.gguf",
        ),
    ],
)
def test_a_reference_has_its_parts_and_its_place(reference: str, parts: tuple[str, ...], place: str) -> None:
    found = parse_hf(reference)
    assert (found.owner, found.repo, found.path, found.revision) == parts
    assert stored_path(reference) == PurePosixPath(place)


@pytest.mark.parametrize(
    "reference",
    [
        "phi",
        "hf://org/tiny",
        "hf://org/tiny/model.bin",
        "hf://org/tiny/../other/x.gguf",
        "hf://org/../x.gguf",
        "hf://../tiny/x.gguf",
        "hf://org/tiny//x.gguf",
        "hf://org/tiny/.git/x.gguf",
        "hf://org/tiny/x.gguf@",
        "hf://org/tiny/x.gguf@../../etc",
        "hf://org/tiny/x.gguf@/etc",
        "hf://org/tiny/x.gguf@a@b",
        "hf://org/tiny/x.gguf\n",
        "hf://org/tiny/x%2Fy.gguf",
        "https://huggingface.co/org/tiny/x.gguf",
        f"hf://org/tiny/{'x' * 300}.gguf",
        f"hf://org/tiny/x.gguf@{'a/' * 150}a",
    ],
)
def test_what_is_no_reference_is_refused_with_its_form(reference: str) -> None:
    with pytest.raises(ValueError, match=r"it must be hf://owner/repo/path/file\.gguf|may not be longer|may be longer"):
        parse_hf(reference)
    with pytest.raises(ValueError, match=r"it must be|longer"):
        stored_path(reference)


def test_a_split_model_means_all_its_parts_and_is_opened_by_the_first() -> None:
    paths = tuple(f"q4/big-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    for path in paths:
        assert parse_hf(f"hf://org/tiny/{path}").paths == paths
        assert stored_path(f"hf://org/tiny/{path}") == PurePosixPath("hf/org/tiny/main", paths[0])
    for whole in ("big-00004-of-00003.gguf", "big-00000-of-00003.gguf", "big-1-of-3.gguf"):
        assert parse_hf(f"hf://org/tiny/{whole}").paths == (whole,)


def test_names_of_ollama_are_no_names_of_the_hub() -> None:
    assert is_hf("hf://org/tiny/x.gguf")
    assert not is_hf("hf.co/org/tiny:Q4")
    assert not is_hf("phi")


WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)
FILES = st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9 ._-]{0,9}", fullmatch=True), min_size=1, max_size=3)


@given(WORDS, WORDS, FILES, st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,9}", fullmatch=True))
def test_different_files_have_different_places_below_the_folder(
    owner: str, repo: str, files: list[str], revision: str | None
) -> None:
    reference = f"hf://{owner}/{repo}/{'/'.join(files)}.gguf" + ("" if revision is None else f"@{revision}")
    if ".." in reference:
        with pytest.raises(ValueError, match="without"):
            parse_hf(reference)
        return
    place = stored_path(reference)
    _, *folders = place.parts
    assert place.parts[0] == "hf"
    assert not {"..", ".", ""} & set(place.parts)
    back = HfReference(folders[0], folders[1], "/".join(folders[3:]), folders[2].replace("%2F", "/"))
    assert back == parse_hf(reference)
