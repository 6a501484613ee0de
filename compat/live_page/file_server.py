"""The page for files, served on this machine alone."""

from __future__ import annotations

from collections.abc import Mapping

from meshfold.compat.live_page.file_source import FileSource
from meshfold.compat.live_page.job import Job
from meshfold.compat.live_page.pages import pages
from meshfold.compat.live_page.view import PATH
from meshfold.model.errors import InvalidConfig
from meshfold.service.http_port import HttpPort, Page, PageAnswer, PageRequest, text

_HOST = "127.0.0.1"
_OWN_NAMES = (_HOST, "localhost", "[::1]")


class FileServer:
    """A server that answers from its construction to stop()."""

    def __init__(self, job: Job, port: int) -> None:
        """port: 0 for any. Raises InvalidConfig if the port cannot be opened."""
        self._source = FileSource(job)
        self._pages: Mapping[str, Page] = pages(self._source)
        try:
            self._http = HttpPort(_HOST, port, self._answer)
        except OSError as error:
            raise InvalidConfig(
                f"cannot listen on {_HOST}:{port}: {error}; choose another with --port, 0 for any"
            ) from None
        self.address = f"{_HOST}:{self._http.port}"
        # The first computation starts before the first request.
        self._source.facts()

    def stop(self) -> None:
        self._http.stop()
        self._source.stop()

    def _answer(self, request: PageRequest) -> PageAnswer:
        # A page of another site may reach this port under a foreign host name, and must not read the answer.
        if request.headers.get("host", "").rpartition(":")[0] not in _OWN_NAMES:
            return text(f"expected http://{self.address}{PATH}", 421)
        if request.path == "/":
            return PageAnswer(b"", status=302, headers={"Location": PATH})
        page = self._pages.get(request.path)
        return page(request) if page is not None else text(f"nothing is here; see {PATH}", 404)
