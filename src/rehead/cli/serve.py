"""`rehead serve`: answer over HTTP."""

from __future__ import annotations

import argparse
from pathlib import Path

from rehead.cli import arguments
from rehead.runtime import extras, progress

EXAMPLE = "rehead serve tickets=rehead-model --port 8080"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    from rehead.serving.settings import MEGABYTE, RequestLimits, ServerSettings

    settings, limits = ServerSettings(), RequestLimits()
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="[NAME=]FOLDER[@WEIGHT]: folders of one name share its requests; @shadow gets them too, without answering",
    )
    parser.add_argument(
        "--host",
        default=settings.host,
        metavar="H",
        help="address to listen on; 0.0.0.0 for all networks (%(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=settings.port,
        metavar="N",
        help="port to listen on; 0 takes a free one (%(default)s)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve other machines without API keys ($REHEAD_API_KEYS)"
    )
    parser.add_argument(
        "--jobs",
        default=settings.jobs,
        type=Path,
        metavar="DIR",
        help="folder that keeps the jobs on files (%(default)s)",
    )
    arguments.add_on(parser)
    parser.add_argument(
        "--replicas", type=int, default=1, metavar="N", help="processes on the cluster that answer (%(default)s)"
    )
    limited = parser.add_argument_group("limits")
    for name, kind, default, metavar, about in (
        ("--max-body", float, limits.body_bytes // MEGABYTE, "MB", "largest request"),
        ("--max-upload", float, limits.upload_bytes // MEGABYTE, "MB", "largest file"),
        ("--max-texts", int, limits.texts, "N", "most texts in a request"),
        ("--max-characters", int, limits.characters, "N", "longest text"),
        ("--batch-tokens", int, limits.batch_tokens, "N", "tokens scored together, of several requests"),
        (
            "--batch-wait",
            float,
            limits.batch_milliseconds,
            "MS",
            "longest wait of a request for others, in milliseconds",
        ),
        ("--queue-tokens", int, limits.queue_tokens, "N", "tokens that may wait; more are refused with 429"),
    ):
        limited.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{about} (%(default)s)")
    parser.add_argument("--log-texts", action="store_true", help="write texts into the log, too")


def run(options: argparse.Namespace) -> None:
    """Serve until the process is stopped."""
    extras.require("a server", "serve", "fastapi", "prometheus_client", "python_multipart", "uvicorn")
    if options.on:
        from rehead.cluster.connection import require_ray

        require_ray(options.on)
    from rehead.serving.models import parse
    from rehead.serving.settings import MEGABYTE, RequestLimits, ServerSettings, keys_from_environment

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        keys=keys_from_environment(),
        insecure=options.insecure,
        log_texts=options.log_texts,
        jobs=options.jobs,
        limits=RequestLimits(
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
    if options.on:
        from rehead.cluster.serving import serve_on_ray

        serve_on_ray(parse(options.models), settings, on=options.on, replicas=options.replicas)
        return
    from rehead.serving import server

    server.run(parse(options.models), settings)
