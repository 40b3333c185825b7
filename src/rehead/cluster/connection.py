"""Connect to a Ray cluster, or start one on this machine, and turn its errors into ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rehead.runtime import extras
from rehead.runtime.errors import RheadError, SettingError, first_line

LOCAL = "ray"
_CLIENT = "ray://"
# Read by Ray when it is imported or started; what the user has set stays.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A cluster of this machine alone listens on loopback; with tokens Ray would write one into the home folder.
    "RAY_AUTH_MODE": "disabled",
    # Ray gives its own processes 30 seconds to start, which a busy machine does not keep.
    "RAY_raylet_start_wait_time_s": "120",
}


def require_ray(address: str) -> None:
    """Check that an address is one of Ray's and that Ray is installed.

    Raises:
        SettingError: it is not.
    """
    if address != LOCAL and not address.startswith(_CLIENT):
        raise SettingError(f"`on` must be ray or ray://HOST:PORT, not {address!r}")
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    extras.require(f"`on={address!r}`", "ray", "ray")


@contextmanager
def connected(address: str, **settings: Any) -> Iterator[None]:
    """Be connected to a cluster while the block runs; one that was connected to before stays so.

    Args:
        address: `ray` for the cluster that $RAY_ADDRESS names, as it does in a job that was submitted to one, or else
            for a cluster of this machine alone, which ends with the block; `ray://HOST:PORT` for that of Ray's client
            server.
        settings: further ones of `ray.init`.

    Raises:
        SettingError: there is no Ray, or no cluster there.
    """
    require_ray(address)
    import ray

    if ray.is_initialized():
        with redirect_stdout(sys.stderr), _errors_of_ours():
            yield
        return
    chosen = os.environ.get("RAY_ADDRESS") if address == LOCAL else address
    if not chosen:
        # So that its workers, too, take loopback for the machine's address.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(chosen or "local", log_to_driver=False, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise SettingError(f"no Ray cluster at {chosen or 'this machine'} ({first_line(error)}); check `on`") from error
    try:
        # Ray prints what it has to say of lost workers among the results.
        with redirect_stdout(sys.stderr), _errors_of_ours():
            yield
    finally:
        ray.shutdown()


def there(work: Callable[..., Any], *arguments: object) -> Any:
    """Do some work in this process, or in the cluster where this process is a client of it.

    A client sees the cluster through one connection; what drives thousands of tasks has to be nearer to them.
    """
    import ray

    if not ray.util.client.ray.is_connected():
        return work(*arguments)
    return ray.get(ray.remote(num_cpus=0, max_retries=0)(work).remote(*arguments))


@contextmanager
def _errors_of_ours() -> Iterator[None]:
    """Raise what a worker has raised for the user to mend in the place of what Ray makes of it."""
    try:
        yield
    except Exception as error:
        ours = _ours_among(error)
        if ours is None or ours is error:
            raise
        raise ours from None


def _ours_among(error: BaseException | None) -> RheadError | None:
    """Return the error of rehead's own that one of Ray's holds, however deep; None where there is none.

    Ray raises children of ours, too, whose message is no longer one line.
    """
    if error is None:
        return None
    if type(error) in (RheadError, *RheadError.__subclasses__()):
        assert isinstance(error, RheadError)
        return error
    held = [getattr(error, "cause", None), getattr(error, "_base_exc", None), error.__cause__]
    held += getattr(error, "worker_failures", {}).values()
    return next(filter(None, map(_ours_among, held)), None)
