"""The mounted settings file: read at the start and after every change. It must not know who uses which setting."""

import logging
import os
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from chatbot_runtime.config import ConfigError
from chatbot_runtime.contract import Phase, RuntimeSettings, settings_hash

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 1024 * 1024
"""A ConfigMap holds at most 1 MiB; what is larger was not written for us."""


class SettingsFile:
    """The settings in use. Without a path: the defaults, for ever.

    Raises ConfigError if the file cannot be used at the start: there is nothing older to go on with, and a guess
    might let in clients that must not be let in.
    """

    def __init__(self, path: Path | None, phase: Phase = "mock") -> None:
        self._path = path
        self._phase = phase
        self._seen: object = None
        self.error = ""
        self.current = RuntimeSettings()
        self.hash = settings_hash("")
        if path is not None:
            self._seen = _signature(path)
            self.current, self.hash = self._read(path)

    def poll(self) -> bool:
        """Reads the file again if it changed; True if other settings are in use now.

        A broken file changes nothing but `error`: the settings before it stay in use.
        """
        if self._path is None:
            return False
        signature = _signature(self._path)
        if signature == self._seen:
            return False
        self._seen = signature
        try:
            settings, name = self._read(self._path)
        except ConfigError as error:
            self.error = str(error)
            log.error("settings not taken over, those before stay in use: %s", error)
            return False
        changed = name != self.hash
        # Taken over in any case: the hash does not tell of everything.
        self.current, self.hash, self.error = settings, name, ""
        if changed:
            log.info("settings taken over", extra={"settings": name})
        return changed

    def _read(self, path: Path) -> tuple[RuntimeSettings, str]:
        settings, name = _read(path)
        if settings.fallback.by_phase:
            usual: Literal["mock", "none"] = "none" if self._phase == "local" else "mock"
            settings = settings.model_copy(update={"fallback": settings.fallback.model_copy(update={"to": usual})})
        return settings, name


def _signature(path: Path) -> tuple[int, ...] | None:
    """Differs when the file was written or replaced; a ConfigMap's update replaces a link on the way to it."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - half the cost of Path.stat, and asked every second
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_dev, stat.st_size)


def _read(path: Path) -> tuple[RuntimeSettings, str]:
    """Settings and their hash. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"the settings file {path} is larger than {MAX_BYTES} bytes: make it smaller")
        text = raw.decode()
        return RuntimeSettings.model_validate_json(text), settings_hash(text)
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the settings file {path} is not UTF-8 text: write it as JSON in UTF-8") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigError(f"the settings file {path} cannot be used: {where}: {first['msg']}: correct it") from None
