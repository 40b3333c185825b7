"""A stand-in for a store of objects: it cannot rename, and nothing takes its addresses for local paths."""

from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Bucket(LocalFileSystem):
    """`bucket://FOLDER/FILE` is a file below /."""

    protocol = "bucket"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/" + str(path).removeprefix("bucket://").strip("/")

    def unstrip_protocol(self, name: str) -> str:
        return "bucket://" + self._strip_protocol(name).lstrip("/")

    def mv(self, *_: Any, **__: Any) -> None:
        raise OSError("a store of objects cannot rename")


def register() -> None:
    """Let a worker know it."""
    fsspec.register_implementation("bucket", Bucket, clobber=True)


def address(path: object) -> str:
    return f"bucket://{str(path).lstrip('/')}"
