"""The `serve` command: from the command line's options to a running server."""

from __future__ import annotations

import argparse

from rehead.runtime import progress
from rehead.runtime.errors import SettingError


def serve(options: argparse.Namespace) -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SettingError(f"a server needs {error.name}; pip install 'rehead[serve]'") from None
    from rehead.serving import server
    from rehead.serving.models import parse
    from rehead.serving.settings import MEGABYTE, Limits, ServerSettings, keys_from_environment

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        keys=keys_from_environment(),
        insecure=options.insecure,
        log_texts=options.log_texts,
        jobs=options.jobs,
        limits=Limits(
            body_bytes=int(options.max_body * MEGABYTE),
            upload_bytes=int(options.max_upload * MEGABYTE),
            texts=options.max_texts,
            characters=options.max_characters,
            batch_tokens=options.batch_tokens,
            batch_milliseconds=options.batch_wait,
            queue_tokens=options.queue_tokens,
        ),
    )
    progress.show(False)  # the log is for programs
    server.run(parse(options.models), settings)
