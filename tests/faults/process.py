"""Operator processes that start in a moment, may be killed, paused or starved, and are started again as a kubelet does.

A fork server has everything imported already; each operator is a process of its own with `main([])` as its only code.
One that needs a surrounding of its own (a wrong clock, little memory) starts from nothing behind a `wrapper` command.
It must not know what operators do.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

RESTART_SECONDS = 0.2
END_SECONDS = 30

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["chatbot_operator.__main__"])


def _main(environ: dict[str, str], log: str) -> None:
    from chatbot_operator.__main__ import main

    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environ)
    sys.exit(main([]))


class _Wrapped:
    """A command, with the face of a `multiprocessing.Process`."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=dict(environ), stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        self.pid = self._process.pid
        self.sentinel = os.pidfd_open(self.pid)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()


class OperatorProcess:
    """One operator. Its log is JSON lines in `log`; `starts` counts its lives."""

    def __init__(self, kubeconfig: Path, log: Path, settings: Mapping[str, str]) -> None:
        self.kubeconfig, self.log = kubeconfig, log
        self.settings = dict(settings)
        self.wrapper: Sequence[str] = ()
        self.environ: dict[str, str] = {"KUBECONFIG": str(kubeconfig)}
        self.starts = 0
        self.exits: list[int] = []
        """Exit codes of lives that ended by themselves."""
        self._process: BaseProcess | _Wrapped | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    async def start(self) -> None:
        """Start it; from now on it is started again whenever it ends."""
        self._wanted = True
        environ = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TZ") if k in os.environ}
        environ |= self.environ
        environ |= {f"CHATBOT_OPERATOR_{k}": v for k, v in self.settings.items()}
        process = await asyncio.to_thread(self._launch, environ)
        self._process = process
        self.starts += 1
        asyncio.get_running_loop().add_reader(process.sentinel, self._ended, process)

    def _launch(self, environ: dict[str, str]) -> BaseProcess | _Wrapped:
        if self.wrapper:
            return _Wrapped([*self.wrapper, sys.executable, "-m", "chatbot_operator"], environ, self.log)
        process = _FORK.Process(target=_main, args=(environ, str(self.log)), daemon=True)
        process.start()
        return process

    def _ended(self, process: BaseProcess | _Wrapped) -> None:
        asyncio.get_running_loop().remove_reader(process.sentinel)
        process.join(1)
        if isinstance(process, _Wrapped):
            os.close(process.sentinel)
        if process is self._process and self._wanted:
            self.exits.append(process.exitcode or 0)
            asyncio.get_running_loop().call_later(RESTART_SECONDS, self._again, process)

    def _again(self, process: BaseProcess | _Wrapped) -> None:
        if process is self._process and self._wanted:
            self._task = asyncio.get_running_loop().create_task(self.start())

    async def kill(self, *, restart: bool = True) -> None:
        """SIGKILL, and a new life at once unless it is to stay away."""
        await self._end(signal.SIGKILL)
        if restart:
            await self.start()

    async def stop(self) -> None:
        """SIGTERM as from a kubelet; it stays away."""
        await self._end(signal.SIGTERM)

    async def _end(self, sig: signal.Signals) -> None:
        self._wanted = False
        process, self._process = self._process, None
        if process is None or process.pid is None or not process.is_alive():
            return
        os.kill(process.pid, sig)
        if sig != signal.SIGKILL:  # one that is paused would never see it
            os.kill(process.pid, signal.SIGCONT)
        await asyncio.to_thread(process.join, END_SECONDS)
        assert not process.is_alive(), f"the operator has not ended {END_SECONDS} s after {sig.name}"

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def lines(self) -> list[dict[str, Any]]:
        """The log, parsed; a line that is not JSON is an entry of level RAW."""
        entries = []
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                entries.append({"level": "RAW", "message": line})
        return entries
