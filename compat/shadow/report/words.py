"""Words of a report: names and meanings of measures, rates and causes, and remedies for causes."""

from __future__ import annotations

from dataclasses import dataclass

from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.pairs import PairSide

SIDES = {
    PairSide.MESH: "mesh",
    PairSide.MODEL: "model",
    PairSide.AGAIN: "mesh, asked again",
}


@dataclass(frozen=True)
class Measure:
    """The words of a figure. is_share: whether it is a fraction, shown in percent. unit: suffix of other numbers."""

    label: str
    meaning: str
    is_share: bool = False
    unit: str = ""


# Prefix of a pair's measures of noise, which compare the mesh's two answers.
_NOISE = "noise "

# Measures by the part of a figure's name before "@".
MEASURES = {
    "overlap": Measure(
        "Overlap",
        "The share of results that both answers hold, in any order. 100% means the same items.",
        is_share=True,
    ),
    "jaccard": Measure(
        "Jaccard",
        "Items that both answers hold over items that either holds. It is stricter than overlap: two lists of 100 that "
        "share 90 have an overlap of 90% and a Jaccard index of 82%.",
        is_share=True,
    ),
    "rbo": Measure(
        "Rank-biased overlap",
        "Overlap at every depth, weighted so that the first ranks count most (Webber, Moffat and Zobel 2010). "
        "1 means the same order, 0 means nothing in common. Results of equal value are ties and share a rank.",
    ),
    "tau": Measure(
        "Kendall's tau-b",
        "How far the items that both answers hold stand in the same order. 1 means the same order, 0 no relation, "
        "-1 the reverse order. Ties are corrected for.",
    ),
    "ndcg": Measure(
        "NDCG",
        "How good the model's order is where the mesh's order sets the gain of each item. 1 means as good as the "
        "mesh's own order; an exchange near the top costs more than one further down.",
    ),
    "first_difference": Measure(
        "First difference",
        "The first rank at which the answers differ by more than a tie. Larger is better.",
    ),
    "length_difference": Measure(
        "Difference in length",
        "The number of the model's results minus the mesh's. 0 means equally long answers.",
    ),
    "latency_difference": Measure(
        "Difference in latency",
        "The model's latency minus the mesh's. Negative: the model is faster.",
        unit="ms",
    ),
}

# Rates by name.
RATES = {
    "violations": "Items that the request's filter does not admit",
    "errors": "Answers with an error",
    "duplicates": "Answers that hold an item twice",
    "empty": "Answers without a result",
    "short": "Answers with fewer results than were asked for",
    "nan_scores": "Answers with a score that is no number",
    "odd_scores": "Answers with more or fewer scores than items",
}


@dataclass(frozen=True)
class CauseWords:
    """The words of a cause. name: a short label. meaning: one sentence. remedy: advice."""

    name: str
    meaning: str
    remedy: str


CAUSES = {
    Cause.MESH_ANN_MISS: CauseWords(
        "mesh's search missed it",
        "An exact search finds the item; the approximate search of the mesh did not.",
        "Nothing to mend in the model. A large share tells the recall of the mesh's own index.",
    ),
    Cause.MODEL_ANN_MISS: CauseWords(
        "model's search missed it",
        "An exact search finds the item; the approximate search of the model did not.",
        "Expected up to the snapshot's measured recall (meshfold inspect). Above that, build with a higher recall.",
    ),
    Cause.MESH_FILTER: CauseWords(
        "mesh's filter",
        "The mesh decides the request's filter otherwise than the catalog's columns do.",
        "Compare the mesh's fields with the catalog: old field values and unsupported operators are usual reasons.",
    ),
    Cause.MODEL_FILTER: CauseWords(
        "model's filter",
        "The model decides the request's filter otherwise than the catalog's columns do.",
        "Compare the schema's fields with the mesh's, and the age of the snapshot with the age of its data.",
    ),
    Cause.TIE: CauseWords(
        "tie",
        "The items at the edge have equal values, so that either answer is right.",
        "Nothing to do.",
    ),
    Cause.PRECISION: CauseWords(
        "rounding",
        "The values differ by less than one side's precision, such as float16 or 8-bit codes.",
        "Nothing to do, unless it is frequent in the first ranks.",
    ),
    Cause.MESH_CATALOG: CauseWords(
        "not in the mesh",
        "The mesh does not have the item.",
        "Publish the item to the mesh, or compare catalogs of the same time.",
    ),
    Cause.MODEL_CATALOG: CauseWords(
        "not in the model",
        "The model's snapshot does not have the item.",
        "Refresh the snapshot from the catalog that the mesh serves.",
    ),
    Cause.USER_VECTOR: CauseWords(
        "other user vector",
        "The two sides compute different vectors for the user.",
        "Compare the weights' versions, the order and length of histories, and the user's inputs.",
    ),
    Cause.SCORES: CauseWords(
        "other scores",
        "The two sides score the same candidates differently.",
        "Compare the versions of the scoring models, each task's head, and the value formula.",
    ),
    Cause.MERGE: CauseWords(
        "other merge",
        "The two sides merge the candidates of several searches differently.",
        "Compare quotas, order and removal of duplicates in the step that merges.",
    ),
    Cause.CAP: CauseWords(
        "answer cut short",
        "The answer has fewer results than were asked for, and the item would have come behind its end.",
        "Look for what shortens that side's answers: its own caps, limits of pages, filters behind the search.",
    ),
    Cause.UNKNOWN: CauseWords(
        "unknown",
        "Undoing no known cause brings the item back.",
        "Look at the examples. If many share a slice, begin there.",
    ),
}


def measure_of(name: str) -> Measure:
    """The measure of a figure's name, such as overlap@100; an unknown measure keeps its name."""
    before = name.removeprefix(_NOISE).partition("@")[0].removesuffix("_ms")
    return MEASURES.get(before) or Measure(_spaced(before), "")


def figure_label(name: str) -> str:
    """The label of a figure: overlap@100 -> Overlap, first 100; overlap@K -> Overlap, all results."""
    label = measure_of(name).label
    _, at, depth = name.partition("@")
    if at:
        label += f", first {depth}" if depth.isdecimal() and depth != "0" else ", all results"
    return f"{label}, mesh and itself" if name.startswith(_NOISE) else label


def rate_label(name: str) -> str:
    return RATES.get(name) or _spaced(name)


def side_label(side: str) -> str:
    return SIDES[PairSide(side)] if side in SIDES else side


def cause_words(cause: str) -> CauseWords:
    """The words of a cause; an unknown cause keeps its name."""
    return CAUSES[Cause(cause)] if cause in CAUSES else CauseWords(_spaced(cause), "", "")


def _spaced(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]
