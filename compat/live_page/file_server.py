"""The page of files, for this machine alone."""

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
    """Answers from the moment it is made to stop()."""

    def __init__(self, job: Job, port: int) -> None:
        """port: 0 for any. Raises InvalidConfig where it cannot be listened on."""
        self._source = FileSource(job)
        self._pages: Mapping[str, Page] = pages(self._source)
        try:
            self._http = HttpPort(_HOST, port, self._answer)
        except OSError as error:
            raise InvalidConfig(
                f"cannot listen on {_HOST}:{port}: {error}; choose another with --port, 0 for any"
            ) from None
        self.address = f"{_HOST}:{self._http.port}"
        # What takes long begins before the first look.
        self._source.facts()

    def stop(self) -> None:
        self._http.stop()
        self._source.stop()

    def _answer(self, request: PageRequest) -> PageAnswer:
        # Another site's page may reach this port under a name of its own, and must not read what it answers.
        if request.headers.get("host", "").rpartition(":")[0] not in _OWN_NAMES:
            return text(f"expected http://{self.address}{PATH}", 421)
        if request.path == "/":
            return PageAnswer(b"", status=302, headers={"Location": PATH})
        page = self._pages.get(request.path)
        return page(request) if page is not None else text(f"nothing is here; see {PATH}", 404)
