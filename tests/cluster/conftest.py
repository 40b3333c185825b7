"""A cluster of this machine alone, for the tests of a file; and a tiny classifier."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from rehead.cluster.connection import connected, require_ray
from rehead.runtime.errors import SettingError
from tests.cluster.bucket import Bucket


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two cores, and workers that know the stand-in for a store of objects."""
    try:
        require_ray("ray")
    except SettingError as error:
        pytest.skip(str(error))
    import ray

    fsspec.register_implementation("bucket", Bucket, clobber=True)
    environment = {
        "worker_process_setup_hook": "tests.cluster.bucket.register",
        "env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])},
    }
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
        runtime_env=environment,
    )
    try:
        with connected("ray"):
            yield
    finally:
        ray.shutdown()
