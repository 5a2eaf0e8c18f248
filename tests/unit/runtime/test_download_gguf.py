"""The memory that a model's context will take, as its file's head says, and heads that are none."""

import random
from pathlib import Path
from typing import Any

import gguf
import pytest

from chatbot_runtime.downloads.gguf import NoGguf, bytes_per_token
from tests.support import tiny_gguf


def head(path: Path, **numbers: Any) -> Path:
    """A file with these numbers in its head, and what else real ones have there."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"word {n}".encode() for n in range(1000)])
    writer.add_token_scores([0.5] * 1000)
    writer.add_token_types([1] * 1000)
    writer.add_bool("general.flag", True)
    writer.add_float64("general.real", 1.5)
    writer.add_string("general.long", "x" * 100_000)
    for name, value in numbers.items():
        key = f"llama.{name}".replace("__", ".")
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # Llama 3.2 1B: 16 layers, 8 of 32 heads keep, 64 numbers each: 32 KiB.
        (
            {
                "block_count": 16,
                "embedding_length": 2048,
                "attention__head_count": 32,
                "attention__head_count_kv": 8,
            },
            32_768,
        ),
        # Phi-2: 32 layers, all of 32 heads keep, 80 numbers each: 320 KiB.
        ({"block_count": 32, "embedding_length": 2560, "attention__head_count": 32}, 327_680),
        # Gemma: the length of keys and values is given, and is not what the heads come to.
        (
            {
                "block_count": 2,
                "embedding_length": 1000,
                "attention__head_count": 8,
                "attention__head_count_kv": 1,
                "attention__key_length": 256,
                "attention__value_length": 128,
            },
            1536,
        ),
        # Layers that differ.
        (
            {
                "block_count": 3,
                "embedding_length": 64,
                "attention__head_count": 8,
                "attention__head_count_kv": [8, 4, 0],
            },
            384,
        ),
        ({"block_count": 3}, 0),
        ({}, 0),
    ],
    ids=["grouped heads", "all heads", "own lengths", "by layer", "too little", "nothing"],
)
def test_keys_and_values_of_every_layer_are_counted(tmp_path: Path, numbers: dict[str, Any], expected: int) -> None:
    assert bytes_per_token(head(tmp_path / "model.gguf", **numbers)) == expected


def test_a_file_that_an_engine_serves_can_be_read(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "tiny.gguf", "Hello.")
    assert bytes_per_token(tmp_path / "tiny.gguf") > 0


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for content in (b"", b"GG", b"<html>", b"GGUF", b"GGUF" + b"\xff" * 100, b"GGUF\3\0\0\0" + b"\0" * 8 + b"\1"):
        path.write_bytes(content)
        with pytest.raises(NoGguf):
            bytes_per_token(path)


@pytest.mark.timeout(60)
def test_a_head_that_is_damaged_anywhere_ends_quickly_and_never_otherwise_than_it_should(tmp_path: Path) -> None:
    path = head(tmp_path / "model.gguf", block_count=2, embedding_length=64, attention__head_count=8)
    whole, rng = path.read_bytes(), random.Random(7)
    for _ in range(300):
        at = rng.choice([rng.randrange(40), rng.randrange(len(whole))])
        path.write_bytes(whole[:at] + rng.randbytes(8) + whole[at + 8 :] if rng.random() < 0.7 else whole[:at])
        try:
            assert bytes_per_token(path) >= 0
        except NoGguf:
            continue
