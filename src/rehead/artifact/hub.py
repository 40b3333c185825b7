"""Fetch a saved classifier from the model hub, and put one there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehead.artifact.manifest import MANIFEST
from rehead.runtime.errors import ArtifactError, first_line

# What a saved classifier consists of. What could be run, and weights in other forms, are not even fetched.
_FETCHED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.md")
# It quotes the test examples that were classified wrongly.
_KEPT_BACK = ("report.html",)


def fetch(name: str, **options: Any) -> Path:
    """Return the folder in the hub's cache that holds a classifier's files, fetched first where need be.

    Args:
        name: of its repository.
        options: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only` of huggingface_hub.

    Raises:
        ArtifactError: there is no such repository, it holds no classifier, or it cannot be had.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        hf_hub_download(name, MANIFEST, **options)  # what is no classifier may have gigabytes
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED), **options))
    except Exception as error:  # httpx's, and the hub's own, by version
        raise ArtifactError(
            f"no classifier {name!r}: no such folder here, and it is not to be had from the hub "
            f"({first_line(error)[:200]}); give a folder that rehead fit -o has written, or the name of its repository"
        ) from error


def push(
    folder: Path, name: str, *, commit_message: str, private: bool | None, token: str | None, **options: Any
) -> str:
    """Put a saved classifier into a repository, which is made where there is none; return the URL of the commit.

    Args:
        options: `revision` and `create_pr` of `huggingface_hub.upload_folder`.

    Raises:
        ArtifactError: the hub does not take it.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token, library_name="rehead")
    try:
        made = api.create_repo(name, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=made,
            folder_path=folder,
            commit_message=commit_message,
            ignore_patterns=list(_KEPT_BACK),
            **options,
        )
    except Exception as error:  # likewise
        raise ArtifactError(
            f"the hub does not take {name!r} ({first_line(error)[:200]}); log in with hf auth login, or give a token "
            "that may write there"
        ) from error
    return str(commit.commit_url)
