import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from meshfold.model.data import movielens_archive
from meshfold.model.data.movielens_archive import fetch_movielens
from meshfold.model.data.source import open_source
from meshfold.model.errors import InvalidData


@pytest.fixture
def archive(tiny_movielens: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(tiny_movielens.iterdir()):
            packed.write(file, f"ml-small/{file.name}")
        packed.writestr("ml-small/setup.py", "left out")
    return path


@pytest.fixture
def served(archive: Path) -> Iterator[str]:
    """The URL of a server on this machine whose /short breaks off."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = archive.read_bytes()
            if self.path == "/missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100] if self.path == "/short" else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_archive_becomes_a_folder(served: str, tmp_path: Path) -> None:
    out = tmp_path / "data" / "movielens"
    steps: list[tuple[str, int, int]] = []
    fetch_movielens(out, f"{served}/small.zip", lambda *step: steps.append(step))
    assert sorted(p.name for p in out.iterdir()) == ["movies.csv", "ratings.csv", "tags.csv"]
    assert len(open_source(out).catalog()) == 5
    assert list(out.parent.iterdir()) == [out]
    done, total = next(step[1:] for step in reversed(steps) if step[0] == "download")
    assert done == total == (tmp_path / "small.zip").stat().st_size


def test_a_file_is_as_good_as_a_server(archive: Path, tmp_path: Path) -> None:
    fetch_movielens(tmp_path / "out", archive.as_uri())
    assert len(open_source(tmp_path / "out").catalog()) == 5


@pytest.mark.parametrize(
    "files",
    [
        {"movies.dat": "7::Lantern (1931)::Drama\n", "ratings.dat": "1::7::5::9\n", "allbut.pl": ""},
        {"u.item": f"7|Lantern (1931)|||{'|0' * 19}\n", "u.data": "1\t7\t5\t9\n", "ua.base": ""},
    ],
)
def test_archives_of_other_editions(tmp_path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        for name, text in files.items():
            packed.writestr(f"ml-other/{name}", text)
    fetch_movielens(tmp_path / "out", (tmp_path / "other.zip").as_uri())
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert open_source(tmp_path / "out").catalog().texts["title"] == ["Lantern (1931)"]


def _refused(url: str, tmp_path: Path, message: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InvalidData, match=message):
        fetch_movielens(tmp_path / "out", url)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("path", "message"),
    [("short", "broke off"), ("missing", "cannot be fetched: Not Found")],
)
def test_a_server_that_fails_leaves_nothing(served: str, tmp_path: Path, path: str, message: str) -> None:
    _refused(f"{served}/{path}", tmp_path, message)


def test_where_there_is_no_server_the_remedy_is_told(tmp_path: Path) -> None:
    _refused("http://127.0.0.1:1/small.zip", tmp_path, "cannot be fetched: .*meshfold data generated")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/small.zip", "small.zip", "data:,x"])
def test_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    _refused(url, tmp_path, "the URL must start with one of https:")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../movies.csv", "which leads outside it"),
        ("/etc/movies.csv", "which leads outside it"),
        ("a\\..\\movies.csv", "which leads outside it"),
        ("other/movies.csv", "holds movies.csv twice"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(
    archive: Path, tmp_path: Path, name: str, message: str
) -> None:
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, "x")
    _refused(archive.as_uri(), tmp_path, message)


def test_what_is_no_movielens_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("ml/movies.csv", "movieId,title,genres\n")
    _refused(archive.as_uri(), tmp_path, "is not a MovieLens archive")
    archive.write_bytes(b"no zip")
    _refused(archive.as_uri(), tmp_path, "is not a zip archive")


def test_a_broken_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    whole = bytearray(archive.read_bytes())
    whole[70:80] = bytes(10)
    archive.write_bytes(whole)
    _refused(archive.as_uri(), tmp_path, "is not a zip archive that can be read")


def test_sizes_have_limits(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens_archive, "MAX_FILE_BYTES", 50)
    _refused(archive.as_uri(), tmp_path, "unpacks to more than 50 bytes")
    monkeypatch.setattr(movielens_archive, "MAX_ARCHIVE_BYTES", 50)
    _refused(archive.as_uri(), tmp_path, "is larger than 50 bytes")


def test_a_folder_that_is_there_is_kept(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="exists already"):
        fetch_movielens(tmp_path, archive.as_uri())
    assert archive.is_file()
