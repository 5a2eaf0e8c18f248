"""Serves a model as llama.cpp's llama-server does, by the same flags, so that its image and ours can be exchanged.

The server is the one in the package xllamacpp. While the model loads the port is open and answers 503. It must not know
Kubernetes, and imports nothing of devcluster: in its image this package is alone, under the name `llama_server`.
"""

import argparse
import ctypes
import os
import signal
import sys
from argparse import BooleanOptionalAction
from collections.abc import Sequence

import xllamacpp  # type: ignore[import-untyped]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
READY = "ready: SIGTERM ends it in order, a second one at once"
"""What it says when it serves."""
LAYERS = {"auto": -1, "all": -2}
"""Names of numbers of layers."""


def layers(text: str) -> int:
    """A number of layers, or what a name stands for."""
    return LAYERS[text] if text in LAYERS else int(text)


def parser() -> argparse.ArgumentParser:
    """llama-server's flags, as many as a chatbot's engine needs, spelled as there and with the same defaults."""
    root = argparse.ArgumentParser(prog="llama-server", description="Serve a model by HTTP.", allow_abbrev=False)
    add = root.add_argument
    add("-m", "--model", metavar="FILE", required=True, help="the model's file; of a split one the first part")
    add("-a", "--alias", metavar="NAME", default="", help="the model's name in answers (its file)")
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen (127.0.0.1)")
    add("--port", metavar="PORT", type=int, default=8080, help="where to listen (8080)")
    add("-c", "--ctx-size", metavar="N", type=int, default=0, help="tokens of context, of all slots (the model's)")
    add("-np", "--parallel", metavar="N", type=int, default=-1, help="slots: answers at the same time (4)")
    add("-t", "--threads", metavar="N", type=int, default=-1, help="for answers (one a core)")
    add("-tb", "--threads-batch", metavar="N", type=int, help="for reading questions (as --threads)")
    add("-ngl", "--gpu-layers", "--n-gpu-layers", metavar="N", type=layers, default=LAYERS["auto"], help="auto, all, N")
    add("--metrics", action="store_true", help="serve /metrics")
    add("--offline", action="store_true", help="never use the network")
    add("--ui", "--webui", action=BooleanOptionalAction, default=True, help="serve a page for people")
    add("--jinja", action=BooleanOptionalAction, default=True, help="render the model's template with Jinja")
    add("--mmap", action=BooleanOptionalAction, help="read the file as it is needed, or first as a whole")
    add("--mlock", action="store_true", help="keep the model in memory")
    return root


def load_mode(mmap: bool | None, mlock: bool) -> xllamacpp.llama_load_mode:
    """How the file gets into memory; left to the engine if nothing was said."""
    modes = xllamacpp.llama_load_mode
    if mlock:
        return modes.LLAMA_LOAD_MODE_MLOCK if mmap is False else modes.LLAMA_LOAD_MODE_MMAP_MLOCK
    if mmap is None:
        return modes.LLAMA_LOAD_MODE_AUTO
    return modes.LLAMA_LOAD_MODE_MMAP if mmap else modes.LLAMA_LOAD_MODE_NONE


def parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    """The flags in the engine's own terms."""
    wanted = xllamacpp.CommonParams()
    wanted.model.path = options.model
    wanted.model_alias = {name.strip() for name in options.alias.split(",") if name.strip()}
    wanted.hostnames = [options.host]
    wanted.port = options.port
    wanted.n_ctx = options.ctx_size
    wanted.n_parallel = options.parallel
    wanted.cpuparams.n_threads = options.threads
    wanted.cpuparams_batch.n_threads = options.threads_batch or options.threads
    wanted.n_gpu_layers = options.gpu_layers
    wanted.endpoint_metrics = options.metrics
    wanted.offline = options.offline
    wanted.ui = options.ui
    wanted.use_jinja = options.jinja
    wanted.load_mode = load_mode(options.mmap, options.mlock)
    return wanted


def let_signals_end_it() -> None:
    """From now on a signal ends the process at once, with its number as the status.

    While the engine starts or stops it holds the interpreter's lock, so that no handler written in Python would run;
    and process 1 of a container is not ended by the kernel's default. So the C library's own exit is the handler.
    """
    library = ctypes.CDLL(None)
    for number in SIGNALS:
        library.signal(number, library._exit)


def wait_for_signal() -> None:
    """Return after the first signal; the next one ends the process."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, lambda *_: let_signals_end_it())
    sys.stderr.write(f"{READY}\n")
    os.read(reader, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    let_signals_end_it()
    try:
        server = xllamacpp.Server(parameters(options))
    except (RuntimeError, ValueError):  # it names no reason, but its log does
        # In one piece: the log is written meanwhile.
        sys.stderr.write(
            f"error: {options.model} cannot be served at {options.host}:{options.port}; the log says why\n"
        )
        return 1
    wait_for_signal()
    # Closes the port and stops all work; like llama-server it stays until clients with a request have gone.
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main())
