"""Download of the public MovieLens archive into a new folder, which appears by one rename."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress, silent

URL = "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip"
SCHEMES = ("https:", "http:", "file:")
FILES = (
    *("movies.csv", "ratings.csv", "tags.csv", "links.csv", "README.txt"),
    *("movies.dat", "ratings.dat", "tags.dat", "users.dat", "README", "README.html"),
    *("u.item", "u.data", "u.genre", "u.user"),
)
MAX_ARCHIVE_BYTES = 512 << 20
MAX_FILE_BYTES = 2 << 30
TIMEOUT_S = 30.0
_STEP_BYTES = 1 << 18


def fetch_movielens(out: Path, url: str = URL, progress: Progress = silent) -> None:
    """Downloads the archive at the URL and unpacks the known FILES of MovieLens into `out`.

    Raises InvalidData where `out` exists, the download fails, or the archive is not one of MovieLens.
    """
    if out.exists():
        raise InvalidData(f"{out}: exists already; name a new folder, or remove this one")
    if not url.startswith(SCHEMES):
        raise InvalidData(f"the URL must start with one of {', '.join(SCHEMES)}, got {url!r}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            archive, whole = Path(folder) / "archive.zip", Path(folder) / "whole"
            whole.mkdir()
            _download(url, archive, progress)
            progress("unpacking", 0, 1)
            _unpack(url, archive, whole)
            _check(url, whole)
            progress("unpacking", 1, 1)
            os.rename(whole, out)
    except OSError as fault:
        raise InvalidData(f"{out}: cannot be written: {fault.strerror or fault}") from fault


def _download(url: str, archive: Path, progress: Progress) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as reply, archive.open("wb") as file:
            stated = reply.headers.get("Content-Length", "")
            total = int(stated) if stated.isdigit() else 0
            done = 0
            while part := reply.read(_STEP_BYTES):
                done += len(part)
                if max(done, total) > MAX_ARCHIVE_BYTES:
                    raise InvalidData(f"{url}: is larger than {MAX_ARCHIVE_BYTES} bytes; check the URL")
                file.write(part)
                progress("download", done, max(done, total))
    except http.client.HTTPException as fault:
        raise InvalidData(f"{url}: broke off: {fault!r}; try again") from fault
    except (urllib.error.URLError, TimeoutError, ConnectionError) as fault:
        reason = getattr(fault, "reason", fault)
        raise InvalidData(
            f"{url}: cannot be fetched: {reason}; fetch it where there is a network, unpack it and name its "
            "folder as DATA, or make a catalog with 'meshfold data generated'"
        ) from fault
    if done < total:
        raise InvalidData(f"{url}: broke off after {done} of {total} bytes; try again")


def _unpack(url: str, archive: Path, whole: Path) -> None:
    """Writes each known file under its bare name into `whole`, so that no path in the archive leads outside it."""
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                name = PurePosixPath(member.filename)
                if name.is_absolute() or ".." in name.parts or "\\" in member.filename:
                    raise InvalidData(f"{url}: holds the path {member.filename!r}, which leads outside it")
                if member.is_dir() or name.name not in FILES or len(name.parts) > 2:
                    continue
                if (whole / name.name).exists():
                    raise InvalidData(f"{url}: holds {name.name} twice; a MovieLens archive holds it once")
                with packed.open(member) as source, (whole / name.name).open("wb") as target:
                    _copy(f"{url}: {name.name}", source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as fault:
        raise InvalidData(f"{url}: is not a zip archive that can be read: {fault}") from fault


def _copy(what: str, source: IO[bytes], target: IO[bytes]) -> None:
    # The limit counts unpacked bytes; sizes in the archive's directory may be wrong.
    done = 0
    while part := source.read(_STEP_BYTES):
        done += len(part)
        if done > MAX_FILE_BYTES:
            raise InvalidData(f"{what} unpacks to more than {MAX_FILE_BYTES} bytes; check the URL")
        target.write(part)


def _check(url: str, folder: Path) -> None:
    from meshfold.model.data.source import open_source

    try:
        open_source(folder).catalog()
    except InvalidData as fault:
        raise InvalidData(f"{url}: is not a MovieLens archive: {fault}") from fault
