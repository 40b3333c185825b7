"""The settings of a server, and the limits of what it takes from whoever asks."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from rehead.runtime.errors import SettingError

KEYS = "REHEAD_API_KEYS"
MEGABYTE = 2**20


@dataclass(frozen=True)
class RequestLimits:
    """What a request may hold, and how much of it is worked on at a time.

    Attributes:
        body_bytes: of a request to predict.
        upload_bytes: of a file to score.
        texts: of a request, or images.
        explained: texts of a request, where an explanation is wanted: each is scored up to 65 times.
        characters: of a text.
        batch_tokens: that are scored together.
        batch_milliseconds: how long a request waits for others to be scored with.
        queue_tokens: that wait; requests beyond them are turned away.
        jobs: on files that wait.
        connections: that are open at once.
        head_bytes: of a request's first line and headers.
        head_seconds: within which these arrive.
        body_seconds: within which the body arrives, and one more for each `body_bytes_a_second` of it.
        write_seconds: for which a client may take in nothing of what it is sent.
        job_bytes: memory of the process that reads a job's file and writes the result.
        job_seconds: for which it may read or write without having a portion of rows scored.
    """

    body_bytes: int = 16 * MEGABYTE
    upload_bytes: int = 1024 * MEGABYTE
    texts: int = 1_000
    explained: int = 8
    characters: int = 100_000
    batch_tokens: int = 1_024
    batch_milliseconds: float = 2.0
    queue_tokens: int = 200_000
    jobs: int = 100
    connections: int = 800  # of 1,024 files that many systems let a process open
    head_bytes: int = 65_536
    head_seconds: float = 10.0
    body_seconds: float = 20.0
    body_bytes_a_second: int = 500
    write_seconds: float = 60.0
    job_bytes: int = 2048 * MEGABYTE
    job_seconds: float = 600.0


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, who may ask, and how much.

    Attributes:
        host, port: where it listens.
        keys: of whoever may ask; empty where everybody may.
        insecure: whether everybody may ask from other machines, too.
        log_texts: whether texts go into the log.
        jobs: folder of the jobs on files and their results.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: frozenset[str] = frozenset()
    insecure: bool = False
    log_texts: bool = False
    jobs: Path = Path("rehead-jobs")
    limits: RequestLimits = field(default_factory=RequestLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingError(f"`port` must be from 0 to 65535, not {self.port}")
        for name in ("texts", "characters", "batch_tokens", "queue_tokens", "body_bytes", "upload_bytes"):
            if getattr(self.limits, name) < 1:
                raise SettingError(f"the limit of {name.replace('_', ' ')} must be 1 or more")
        if not self.keys and not self.insecure and not self.on_loopback:
            raise SettingError(
                f"`host={self.host!r}` lets other machines ask, and nobody needs a key: set {KEYS} to one or more "
                "keys, separated by commas, or say `insecure=True`"
            )

    @property
    def on_loopback(self) -> bool:
        """Return whether this machine alone can ask."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def keys_from_environment() -> frozenset[str]:
    """Return the API keys in $REHEAD_API_KEYS.

    Raises:
        SettingError: one is so short that it can be guessed.
    """
    keys = frozenset(filter(None, (key.strip() for key in os.environ.get(KEYS, "").split(","))))
    if not all(key.isascii() for key in keys):
        raise SettingError(f"{KEYS}: a key has a character that no header can carry; use letters and digits")
    if any(len(key) < 16 for key in keys):
        raise SettingError(f"{KEYS}: a key has fewer than 16 characters; make one with `openssl rand -hex 24`")
    return keys
