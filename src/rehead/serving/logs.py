"""The server's log: one JSON object a line on stderr, with the request's id and never its text."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

logger = logging.getLogger("rehead.serving")


class _OneObjectALine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def start() -> None:
    """Lets this process log that way, what uvicorn has to say included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneObjectALine())
    for name, level in (("rehead", logging.WARNING), ("rehead.serving", logging.INFO), ("uvicorn.error", logging.INFO)):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(level)


def event(what: str, level: int = logging.INFO, **facts: Any) -> None:
    """Logs that something happened."""
    logger.log(level, what, extra={"facts": facts})


def fault(what: str, error: BaseException, **facts: Any) -> None:
    """Logs a fault of rehead's own, with where it happened."""
    logger.error(what, exc_info=error, extra={"facts": facts})
