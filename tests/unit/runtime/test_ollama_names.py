"""Names of Ollama's models: what a short one means, what a server is asked for, where a manifest lies."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_runtime.ollama_names import full_name, manifest_path, served_name

OWN = "registry.ollama.ai"
MIRROR = "registry.corp:5000"


@pytest.mark.parametrize(
    ("name", "registry", "full", "served"),
    [
        ("phi", "", f"{OWN}/library/phi:latest", "phi:latest"),
        ("llama3.2:1b", "", f"{OWN}/library/llama3.2:1b", "llama3.2:1b"),
        ("team/phi", "", f"{OWN}/team/phi:latest", "team/phi:latest"),
        (f"{OWN}/library/phi", "", f"{OWN}/library/phi:latest", "phi:latest"),
        ("phi", MIRROR, f"{MIRROR}/library/phi:latest", f"{MIRROR}/library/phi:latest"),
        ("team/phi:q4", MIRROR, f"{MIRROR}/team/phi:q4", f"{MIRROR}/team/phi:q4"),
        ("other.corp/team/phi:q4", MIRROR, "other.corp/team/phi:q4", "other.corp/team/phi:q4"),
        ("other.corp:81/team/phi", MIRROR, "other.corp:81/team/phi:latest", "other.corp:81/team/phi:latest"),
        ("localhost/team/phi", "", "localhost/team/phi:latest", "localhost/team/phi:latest"),
        ("other.corp:81/phi", MIRROR, "other.corp:81/library/phi:latest", "other.corp:81/library/phi:latest"),
        ("other.corp/phi:1", "", "other.corp/library/phi:1", "other.corp/library/phi:1"),
        (f"{OWN}/library/phi", MIRROR, f"{OWN}/library/phi:latest", "phi:latest"),
    ],
)
def test_a_name_is_filled_up_with_what_it_leaves_out(name: str, registry: str, full: str, served: str) -> None:
    assert full_name(name, registry) == full
    assert served_name(name, registry) == served


@pytest.mark.parametrize(
    "name",
    ["", ":", "/", "a b", "a b/../c", "../phi", "phi/", "/phi", "phi:", "a//b", "a/b/c/d", "host:port/a/b", "phi:a:b",
     "http://host/library/phi", "user@host/library/phi", ".phi", "phi\n", "phï", "-x"],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a model"):
        full_name(name)


def test_a_registry_that_is_no_host_is_refused() -> None:
    with pytest.raises(ValueError, match="no name of a model"):
        full_name("phi", "registry.corp/mirror")


def test_a_manifest_lies_where_ollama_puts_it() -> None:
    assert manifest_path(f"{MIRROR}/library/tiny:latest") == PurePosixPath(f"manifests/{MIRROR}/library/tiny/latest")
    for short in ("tiny", f"{MIRROR}/library/tiny", "../../etc/x:y"):
        with pytest.raises(ValueError, match="no full name"):
            manifest_path(short)


@given(st.text(alphabet="ab./:_-", max_size=30), st.sampled_from(["", MIRROR, "r"]))
def test_whatever_is_taken_stays_what_it_is_and_below_the_folder(name: str, registry: str) -> None:
    try:
        full = full_name(name, registry)
    except ValueError:
        return
    assert full_name(full, "another.corp") == full
    path = manifest_path(full)
    assert len(path.parts) == 5
    assert ".." not in path.parts
    assert full_name(served_name(name, registry)) == full
