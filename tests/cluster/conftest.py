"""A cluster of this machine alone, which all tests of a process share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from rehead.cluster.connection import connected, require_ray
from rehead.runtime.errors import SettingError
from tests.cluster.bucket import Bucket


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Two cores, and workers that know the stand-in for a store of objects."""
    try:
        require_ray("ray")
    except SettingError as error:
        pytest.skip(str(error))
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    environment = {
        "worker_process_setup_hook": "tests.cluster.bucket.register",
        "env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])},
    }
    with connected("ray", num_cpus=2, object_store_memory=200 * 2**20, runtime_env=environment):
        yield
