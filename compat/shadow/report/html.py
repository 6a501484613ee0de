"""A comparison as one HTML file, without network access; its only script sorts tables."""

from __future__ import annotations

import os
from pathlib import Path

from meshfold.compat.shadow.comparison import Comparison
from meshfold.model.errors import NotDurable
from meshfold.model.store import sync_folder
from meshfold.service.extras import need


def render(comparison: Comparison) -> str:
    """The page. Raises InvalidConfig where the extra `shadow` is not installed."""
    need("shadow", "a report as HTML")
    # Imported here, since only the page needs the packages of the extra.
    from meshfold.compat.shadow.report.page import page

    return page(comparison)


def write_html(comparison: Comparison, file: Path) -> None:
    """Writes the page durably, in the place of an older one. Raises InvalidConfig as `render`, and NotDurable."""
    text = render(comparison)
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        try:
            with new.open("w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(file)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    except OSError as error:
        raise NotDurable(
            f"the report cannot be written to {file}: {error.strerror}; name another file"
        ) from None
