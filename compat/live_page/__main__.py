"""A process that finds out what takes long for the page: a job comes as JSON on standard input, what it found goes to
standard output, and it ends."""

from __future__ import annotations

import json
import logging
import sys

from meshfold.compat.low_priority import lowest_priority


def main() -> int:
    lowest_priority()
    # After the priority: their imports take long.
    from meshfold.compat.live_page.findings import find
    from meshfold.compat.live_page.job import Job

    logging.disable()
    found = find(Job.read(json.load(sys.stdin)))
    json.dump(found.told(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
