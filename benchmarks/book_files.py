"""The book's balanced SMS split as three files, which rehead and its peers read alike."""

from pathlib import Path

from book_split import split


def write(collection: Path, folder: Path, texts: int | None = None) -> dict[str, Path]:
    """Writes train.csv, validation.csv and test.csv.

    Args:
        texts: so many of each part, or all.
    """
    files = {}
    for name, frame in split(collection).items():
        files[name] = folder / f"{name}.csv"
        frame.head(texts if texts else len(frame)).to_csv(files[name], index=False)
    return files


def as_arguments(files: dict[str, Path]) -> list[str | Path]:
    """As `rehead fit` takes them."""
    return [files["train"], "--validation", files["validation"], "--test", files["test"]]
