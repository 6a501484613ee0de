"""A comparison as a page: the data of the template, in its order. Needs the extra `shadow`."""

from __future__ import annotations

import hashlib
import math
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from meshfold.compat.shadow.comparison import Comparison, SurfaceComparison
from meshfold.compat.shadow.report import tables
from meshfold.compat.shadow.report.examples import ExampleView, example_view
from meshfold.compat.shadow.report.headline import Headline, agreement_of, headline
from meshfold.compat.shadow.report.plots import Plot, plots_of
from meshfold.compat.shadow.report.tables import Table
from meshfold.compat.shadow.report.texts import NONE, clean, count, percent, period
from meshfold.compat.shadow.report.words import MEASURES, cause_words

# Most surfaces, examples and rows of a page, so that a browser opens it at once; the JSON has all.
MOST_SURFACES = 20
MOST_EXAMPLES_PER_SURFACE = 12
MOST_EXAMPLES = 24
_NAME_CHARACTERS, _NOTE_CHARACTERS, _MOST_NOTES = 80, 500, 40
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class CauseView:
    """A cause as shown. width: of its bar, in percent of the most frequent cause's."""

    name: str
    items: str
    share: str
    width: float
    meaning: str
    remedy: str


@dataclass(frozen=True)
class SurfaceView:
    """A surface as shown. anchor: for links. causes: (heading, causes) for each side from which items are missing."""

    anchor: str
    name: str
    headline: Headline
    tiles: tuple[tuple[str, str], ...]
    figures: Table
    plots: tuple[Plot, ...]
    rates: Table
    latencies: Table
    exposure: Table
    attributed: str
    causes: tuple[tuple[str, tuple[CauseView, ...]], ...]
    slices: Table
    examples: tuple[ExampleView, ...]
    examples_left_out: int


def page(comparison: Comparison) -> str:
    """The whole page as text."""
    script = (_FOLDER / "sort.js").read_text(encoding="utf-8")
    compared = [surface for surface in comparison.surfaces if surface.pairs]
    surfaces = _surfaces(compared[:MOST_SURFACES])
    return (
        environment()
        .get_template("template.html")
        .render(
            surfaces=surfaces,
            least=surfaces[compared.index(min(compared[:MOST_SURFACES], key=_agrees))] if surfaces else None,
            surfaces_left_out=max(0, len(compared) - MOST_SURFACES),
            pairs=count(sum(surface.pairs for surface in compared), "pair"),
            period=period(comparison.from_unix_ms, comparison.to_unix_ms),
            sources=[clean(source, _NOTE_CHARACTERS) for source in comparison.sources[:_MOST_NOTES]],
            notes=[clean(note, _NOTE_CHARACTERS) for note in comparison.notes[:_MOST_NOTES]],
            counted=tables.counted_table(comparison.counted),
            measures=MEASURES.values(),
            style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            # A browser runs only the script with this hash, so none that is part of a title.
            script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def environment() -> Environment:
    """The environment of the templates in this folder."""
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        # Titles, names and values are untrusted data.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _surfaces(surfaces: list[SurfaceComparison]) -> list[SurfaceView]:
    views, room = [], MOST_EXAMPLES
    for number, surface in enumerate(surfaces):
        views.append(surface_view(surface, number, min(room, MOST_EXAMPLES_PER_SURFACE)))
        room -= len(views[-1].examples)
    return views


def surface_view(surface: SurfaceComparison, number: int, most_examples: int) -> SurfaceView:
    """The data of a surface for parts.html. number: its number on the page, for ids."""
    examples = tuple(example_view(example) for example in surface.examples[:most_examples])
    return SurfaceView(
        anchor=f"surface-{number}",
        name=clean(surface.surface, _NAME_CHARACTERS) or "(no name)",
        headline=headline(surface),
        tiles=_tiles(surface),
        figures=tables.figures_table(surface.figures),
        plots=plots_of(surface, number),
        rates=tables.rates_table(surface.rates),
        latencies=tables.latency_table(surface.latencies),
        exposure=tables.exposure_table(surface.exposure),
        attributed=count(surface.attributed_pairs, "pair"),
        causes=_causes(surface.causes),
        slices=tables.slices_table(surface.slices),
        examples=examples,
        examples_left_out=len(surface.examples) - len(examples),
    )


def _agrees(surface: SurfaceComparison) -> float:
    """The sort key of surfaces: agreement relative to noise, where known."""
    agreement = agreement_of(surface)
    if agreement is None:
        return math.inf
    excess = agreement.figure.excess
    value = agreement.figure.difference.value - 1 if excess is None else excess.value
    return math.inf if math.isnan(value) else value


def _tiles(surface: SurfaceComparison) -> tuple[tuple[str, str], ...]:
    """The figures in large type, as (value, description)."""
    agreement = agreement_of(surface)
    tiles = [
        (f"{surface.pairs:,}", "pairs"),
        (f"{surface.users:,}", "users"),
        (f"{surface.noise_pairs:,}", "pairs asked again"),
    ]
    if agreement is not None:
        noise = agreement.figure.noise
        tiles.append((agreement.shared(agreement.figure.difference.value), "shared by model and mesh"))
        tiles.append((agreement.shared(noise.value) if noise else NONE, "shared by the mesh and itself"))
    violations = [rate for rate in surface.rates if (rate.name, rate.side) == ("violations", "model")]
    tiles += [(f"{rate.count:,}", "of the model's items violate a filter") for rate in violations]
    return tuple(tiles)


def _causes(causes: Mapping[tuple[str, str], int]) -> tuple[tuple[str, tuple[CauseView, ...]], ...]:
    most = max(causes.values(), default=0)
    shown = []
    for side, heading in (
        ("model", "In the mesh's answer, missing from the model's"),
        ("mesh", "In the model's answer, missing from the mesh's"),
    ):
        of_side = sorted(
            ((n, cause) for (s, cause), n in causes.items() if s == side and n), key=lambda e: (-e[0], e[1])
        )
        total = sum(n for n, _ in of_side)
        views = []
        for items, cause in of_side:
            words = cause_words(cause)
            width = round(100 * items / most, 1)
            views.append(
                CauseView(
                    clean(words.name, _NAME_CHARACTERS),
                    f"{items:,}",
                    percent(items / total),
                    width,
                    words.meaning,
                    words.remedy,
                )
            )
        if views:
            shown.append((f"{heading}: {count(total, 'item')}", tuple(views)))
    return tuple(shown)
