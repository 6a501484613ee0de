"""A process for the page's long computations: it reads a job as JSON from standard input and writes its findings to
standard output."""

from __future__ import annotations

import json
import logging
import sys

from meshfold.compat.low_priority import lowest_priority


def main() -> int:
    lowest_priority()
    # The priority is lowered before these imports, which take long.
    from meshfold.compat.live_page.findings import find
    from meshfold.compat.live_page.job import Job

    logging.disable()
    found = find(Job.read(json.load(sys.stdin)))
    json.dump(found.told(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
