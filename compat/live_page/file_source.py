"""The page's content from files of pairs: a comparison's folder, or a folder or file of pairs."""

from __future__ import annotations

import time

from meshfold.compat.live_page.background import Background
from meshfold.compat.live_page.facts import Details, PageFacts, SurfaceFacts
from meshfold.compat.live_page.job import Job

# Least seconds between computations, if files have changed.
_LEAST_S = 5.0


class FileSource:
    def __init__(self, job: Job) -> None:
        """job: names the files; its surface is filled in."""
        self._place = job.place
        self._background = Background(job, _LEAST_S)

    def stop(self) -> None:
        self._background.stop()

    def facts(self) -> PageFacts:
        found = self._background.found(None)
        caption = f"The pairs of {self._place} are being read." if found is None else found.caption
        surfaces = () if found is None else found.surfaces
        ends_s = [one.points[-1].begin_s + one.points[-1].width_s for one in surfaces if one.points]
        return PageFacts(
            surfaces=[SurfaceFacts(one.name, one.tally, one.points) for one in surfaces],
            # Figures of a finished comparison end with its last pair.
            unix_ms=int(1000 * max(ends_s, default=time.time())),
            about=caption,
            span="in these pairs",
            left_out={} if found is None else found.counted or {},
        )

    def details(self, surface: str) -> Details:
        found = self._background.found(surface)
        if found is None:
            return Details("", "The details are being computed.")
        return Details(found.html, found.caption)
