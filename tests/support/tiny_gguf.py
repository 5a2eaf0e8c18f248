"""Writes a tiny valid model file (GGUF, llama architecture) that says one given sentence, whatever it is asked.

Nothing is trained: the weights are set by hand. The same arguments give the same bytes. It must not know any engine.

    python -m tests.support.tiny_gguf OUT --sentence "Hello from a tiny model."
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]

CONTEXT = 8192
HEAD = 32
"""Size of an attention head; the width of the model is a multiple of it."""
# A softmax over these logits leaves nothing to chance, at any temperature that a client may ask for.
CERTAIN = 64.0
UNKNOWN, BEGIN, END = range(3)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
SHORTEST = 3
"""Characters of a piece: shorter ones could be made of two characters of a question, and be taken for the answer's."""


def pieces_of(sentence: str) -> list[str]:
    """The sentence in pieces of whole words, no piece twice: a repeated one takes in what follows it."""
    pieces: list[str] = []
    piece = ""
    for word in sentence.split():
        piece += f" {word}" if pieces or piece else word
        if len(piece) >= SHORTEST and piece not in pieces:
            pieces.append(piece)
            piece = ""
    if piece:
        pieces[-1:] = ["".join(pieces[-1:]) + piece]
    return pieces


def embeddings(pieces: int, width: int) -> tuple[Weights, Weights]:
    """What a token is inside the model, and which inside speaks for which token; a row for each token.

    Attention and feed-forward add nothing, so the last token alone decides. Dimension k means "piece k comes next":
    each piece points at its successor, the last one at the end, and every other token at the first piece.
    """
    first = END + 1 + 256
    tokens = first + pieces
    inside, speaks = np.zeros((2, tokens, width), np.float32)
    inside[:first, 0] = 1.0
    for position, token in enumerate([*range(first, tokens), END]):
        speaks[token, position] = CERTAIN
        if token != END:
            inside[token, position + 1] = 1.0
    return inside, speaks


def write(path: Path, sentence: str, *, padding_bytes: int = 0) -> None:
    """Write the model, larger by `padding_bytes` that mean nothing. An engine holds them in memory, about twice."""
    pieces = pieces_of(sentence)
    if not pieces:
        raise ValueError("a model needs something to say")
    width = -(-(len(pieces) + 1) // HEAD) * HEAD
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, width)
    _tokenizer(writer, pieces)
    if padding_bytes:
        # A key: a tensor that the architecture does not have is refused. Before the weights: a cut file lacks some.
        writer.add_string("tests.padding", "." * padding_bytes)
    for name, weights in _tensors(len(pieces), width).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, width: int) -> None:
    writer.add_name("tiny")
    writer.add_description("weights set by hand, for tests")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(width // HEAD)
    writer.add_head_count_kv(width // HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)


def _tokenizer(writer: gguf.GGUFWriter, pieces: Sequence[str]) -> None:
    """A vocabulary that reads any text byte by byte, and writes the sentence piece by piece."""
    kind = gguf.TokenType
    special, bytes_ = ["<unk>", "<s>", "</s>"], [f"<0x{number:02X}>" for number in range(256)]
    tokens = [*special, *bytes_, *(piece.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}") for piece in pieces)]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(index) for index in range(len(tokens))])
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, *[kind.NORMAL] * len(pieces)])
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(pieces: int, width: int) -> dict[str, Weights]:
    inside, speaks = embeddings(pieces, width)
    ones, nothing = np.ones(width, np.float32), np.zeros((width, width), np.float32)
    block = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    return {
        "token_embd.weight": inside,
        "output.weight": speaks,
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        **{f"blk.0.{name}.weight": nothing for name in block},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.tiny_gguf", description="Write a tiny model file.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentence", default="Hello from a tiny model.", help="what it says, always")
    parser.add_argument("--padding-bytes", type=int, default=0, metavar="N", help="make the file larger by so much")
    options = parser.parse_args(arguments)
    write(options.out, options.sentence, padding_bytes=options.padding_bytes)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
