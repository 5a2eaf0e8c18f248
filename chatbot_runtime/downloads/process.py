"""The process of `download`: settings, signals, port, last words. It must not know how models are fetched."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from yarl import URL

from chatbot_runtime import log as logs
from chatbot_runtime.config import ConfigError
from chatbot_runtime.contract import PERMANENT, PERMANENT_EXIT, DownloadedModel, DownloadReason, DownloadResult
from chatbot_runtime.downloads.base import TRY_AGAIN_EXIT, DownloadError, Source, StoredModel
from chatbot_runtime.downloads.config import DownloadConfig
from chatbot_runtime.downloads.gguf import context_cost
from chatbot_runtime.downloads.hub_files import HubFiles
from chatbot_runtime.downloads.huggingface import HuggingFaceSource
from chatbot_runtime.downloads.report import ProgressMeter, last_words, line
from chatbot_runtime.downloads.run import Run
from chatbot_runtime.downloads.server import DownloadServer
from chatbot_runtime.downloads.volume import Volume
from chatbot_runtime.downloads.wire import Wire
from chatbot_runtime.network import trust
from chatbot_runtime.references import is_hf
from chatbot_runtime.token_file import TokenFile

log = logging.getLogger(__name__)

STOP_SECONDS = 0.5
"""How long a download that was told to stop may put itself in order; it can be gone on with in any case."""


def download(environ: Mapping[str, str]) -> int:
    """Downloads the list of models that `environ` names; the exit code. Threads of it may hang for longer."""
    try:
        config = DownloadConfig.from_env(environ)
        logs.set_up(config.log_format, config.log_level, chatbot=config.name, namespace=config.namespace)
        process = _Process(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        path = environ.get("CHATBOT_TERMINATION_FILE") or DownloadConfig.model_fields["termination_file"].default
        listed = environ.get("CHATBOT_LIST_HASH", "")[:100]
        _say(Path(path), DownloadResult(list_hash=listed, reason="DownloadFailed", message=str(error)))
        return PERMANENT_EXIT
    return asyncio.Runner().run(process.run())  # not closed: that would wait for threads


class Sources:
    """The two sources, each made when the first of its models is asked for."""

    def __init__(self, config: DownloadConfig, volume: Volume, token: TokenFile) -> None:
        self._config = config
        self._volume = volume
        self._token = token
        self._context = trust(config.ca_file)
        self._made: dict[bool, Source] = {}

    def of(self, name: str) -> Source:
        """The source of a model."""
        kind = is_hf(name)
        if kind not in self._made:
            self._made[kind] = self._hub() if kind else self._ollama()
        return self._made[kind]

    async def close(self) -> None:
        """Closes both."""
        for source in self._made.values():
            await source.close()

    def _hub(self) -> Source:
        config, endpoint = self._config, URL(self._config.hub_url)
        return HuggingFaceSource(
            HubFiles(
                endpoint=endpoint,
                token=self._token,
                has_token_file=config.token_file is not None,
                context=self._context,
                connect_seconds=config.connect_seconds,
                stall_seconds=config.stall_seconds,
            ),
            Wire(endpoint, self._context, config.connect_seconds, config.stall_seconds),
            self._volume,
        )

    def _ollama(self) -> Source:
        from chatbot_runtime.downloads.ollama import OllamaSource

        config = self._config
        return OllamaSource(
            url=config.ollama_url,
            registry=config.registry,
            insecure=config.registry_insecure,
            models_dir=config.models_dir,
            stall_seconds=config.stall_seconds,
            connect_seconds=config.connect_seconds,
        )


class _Process:
    """One run, from a bound socket to the last words. Raises ConfigError where a setting cannot be used."""

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        volume, token = Volume(config.models_dir), TokenFile(config.token_file)
        self._sources = Sources(config, volume, token)
        self._meter = ProgressMeter(config.name, config.list_hash, config.models)
        self._run = Run(config, volume, token, self._sources.of, self._meter)
        self._listener = _listen(config.host, config.internal_port)

    async def run(self) -> int:
        """Downloads until done, failed, or told to stop."""
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = DownloadServer(self._meter, self._listener)
        await server.start()
        log.info("downloading: %s", ", ".join(self._config.models), extra={"internal_port": self._port})
        work = asyncio.create_task(self._run.run())
        others = [asyncio.create_task(stop.wait()), asyncio.create_task(self._tell())]
        await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        await asyncio.wait({work}, timeout=STOP_SECONDS)
        result, code = self._outcome(work)
        level = logging.INFO if result.reason in ("Downloaded", "Interrupted") else logging.ERROR
        log.log(level, "%s: %s", result.reason, result.message)
        _say(self._config.termination_file, result)
        for task in others:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS / 2):
                await self._sources.close()
                await server.stop()
        return code

    def _outcome(self, work: "asyncio.Task[tuple[StoredModel, ...]]") -> tuple[DownloadResult, int]:
        """The last words, and the exit code."""
        models: tuple[StoredModel, ...] = ()
        reason: DownloadReason
        try:
            models = work.result()
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            reason, code, message = "Interrupted", TRY_AGAIN_EXIT, "told to stop: the next try goes on from here"
        except DownloadError as error:
            reason, code, message = (
                error.reason,
                PERMANENT_EXIT if error.reason in PERMANENT else TRY_AGAIN_EXIT,
                str(error),
            )
        except Exception as error:  # a fault of ours, which another try may get around
            log.exception("a fault of this program")
            reason, code, message = "DownloadFailed", TRY_AGAIN_EXIT, f"a fault of this program: {type(error).__name__}"
        else:
            reason, code, message = "Downloaded", 0, "all models are whole"
        if code:
            self._meter.failed(reason, message)
        told = tuple(map(self._told, models))
        return DownloadResult(list_hash=self._config.list_hash, reason=reason, message=message, models=told), code

    def _told(self, model: StoredModel) -> DownloadedModel:
        cost = context_cost(self._config.models_dir / file.path for file in model.files)
        return DownloadedModel(name=model.name, digest=model.digest, size_bytes=model.size_bytes, bytes_per_token=cost)

    async def _tell(self) -> None:
        """Says how far it is, for ever."""
        while True:
            await asyncio.sleep(self._config.progress_seconds)
            words, facts = line(self._meter.status())
            log.info(words, extra=facts)

    @property
    def _port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port


def _say(path: Path, result: DownloadResult) -> None:
    try:
        path.write_bytes(last_words(result))
    except OSError as error:
        log.warning("the result cannot be written to %s: %s", path, error.strerror)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
    except OSError as error:
        why = f"cannot listen on {host} port {port}: {error.strerror or error}: choose another port"
        raise ConfigError(f"CHATBOT_INTERNAL_PORT: {why}") from None
