"""A mapping that is wrong in one place is refused when it is loaded, and the message names that place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.compat.mapped.changed_mappings import is_refused, mutations_are_refused
from tests.compat.mapped.conftest import HERE

LEGACY = (HERE / "acme_legacy.toml").read_text()
# What is written, what stands there instead, and a part of the message.
CHANGES = [
    ('"header.request_id"', '"header.request_ids"', "did you mean 'request_id'?"),
    ('"viewer.watched.video"', '"viewer.watchd.video"', "did you mean 'watched'?"),
    ('"viewer.watched.video"', '"viewer.watched"', "is of kind message"),
    ('"viewer.id"', '"viewer.watched.video"', "leads to a list where one value is needed"),
    ('max_results = "page_size"', 'max_results = "page_token"', "is of kind string"),
    ('max_results = "page_size"\n', "", "max_results is missing"),
    ('max_results = "page_size"', 'max_results = { const = "many" }', "must be integer, got 'many'"),
    ('excluded = "hidden"', 'exluded = "hidden"', "did you mean 'excluded'?"),
    ('excluded = "hidden"', 'excluded = "context"', "is of kind message"),
    ('ids = "prefix:vid_"', 'ids = "prefx:vid_"', "is no codec of ids"),
    ('empty = "NOT_FOUND"', 'empty = "NOTFOUND"', "did you mean 'NOT_FOUND'?"),
    ('"x-model-version" = "version"', '"x-model-version" = "versions"', "did you mean 'version'?"),
    ('"x-count"', '"X-Count"', "is no name of textual metadata"),
    (
        'MARKET_GERMAN = "de", MARKET_ENGLISH = "en" } }',
        'MARKET_GREMAN = "de" } }',
        "did you mean 'MARKET_GERMAN'?",
    ),
    ('values = ["text", "numbers", "reals"]', 'values = ["text", "number"]', "did you mean 'numbers'?"),
    ('name = "name", values', 'name = "numbers", values', "leads to a list"),
    ('path = "inputs", name', 'path = "header", name', "must lead to a map or to repeated messages"),
    ('pairs = "filter"', 'pairs = "page_token"', "is one string; expected a list of them"),
    (
        'min = "(acme.legacy.year_from)"',
        'min = "(acme.legacy.year_form)"',
        "did you mean 'acme.legacy.year_from'?",
    ),
    ('min = "(acme.legacy.year_from)"', 'mim = "(acme.legacy.year_from)"', "did you mean 'min'?"),
    (
        "context<acme.legacy.Device>.markets",
        "context<acme.legacy.Devise>.markets",
        "did you mean 'acme.legacy.Device'?",
    ),
    (
        "context<acme.legacy.Device>.markets",
        "header<acme.legacy.Device>.markets",
        "is no google.protobuf.Any",
    ),
    ('"videos.video_id" = "item_id"\n', "", "acme.legacy.Video.video_id is required; give it a source"),
    (
        '"status.code" = { const = 200 }\n',
        "",
        "acme.legacy.FeedResponse.status is required; give it a source",
    ),
    ("const = 200", 'const = "200"', "does not fit 'status.code', of kind integer"),
    ("const = 200", "const = 20000000000", "must lie from"),
    ('from = "value", scale = 1000', 'from = "value"', "holds integers; give scale"),
    ("scale = 1000", "scale = 0", "must not be 0"),
    ('"videos.score.by_task" = "scores"', '"videos.score.by_task" = "tasks"', "is a map"),
    ('{ field = "title", default = "untitled" }', '"tile"', "is not known here"),
    ('default = "untitled"', "default = 7", "does not fit 'videos.title', of kind string"),
    (
        'es = "MARKET_SPANISH" } }\n"videos.years"',
        'es = "MARKET_SPAIN" } }\n"videos.years"',
        "has no value 'MARKET_SPAIN'",
    ),
    ('"videos.rank"', '"videos.ranks"', "did you mean 'rank'?"),
    ('"videos.rank"', '"videos"', "is a message; name a field of it"),
    ('columns["value"].values\' = "value"', 'columns.values\' = "value"', "is a map; name a key of it"),
    ('columns["value"].values\' = "value"', 'columns["value"].values\' = "version"', "gives one value"),
    ('"scores" = { from = "value", key = "item_id" }', '"scores" = "value"', "is a map"),
    (
        '"tensor" = { from = "value", as = "float32" }',
        '"tensor" = { from = "value", as = "float16" }',
        "did you mean 'float64'?",
    ),
    ('"tensor" = { from = "value", as = "float32" }', '"tensor" = "version"', "of kind bytes"),
    (
        '"request_id" = { echo = "header.request_id" }',
        '"request_id" = { echo = "header.requestid" }',
        "did you mean 'request_id'?",
    ),
    (
        '"request_id" = { echo = "header.request_id" }',
        '"request_id" = { echo = "page_size" }',
        "of kind integer",
    ),
    ("(acme.legacy.experiment)", "(acme.legacy.experimant)", "did you mean 'acme.legacy.experiment'?"),
    ("(acme.legacy.experiment)", "(acme.legacy.year_from)", "extends acme.legacy.FeedRequest"),
    ('Feed/GetFeed"]\nids', 'Feed/GetFeeds"]\nids', "did you mean '/acme.legacy.Feed/GetFeed'?"),
    ("Feed/GetInfo", "Feed/WatchFeed", "is a stream of messages"),
    ('name = "acme feed"', 'nam = "acme feed"', "is no acme.legacy.InfoResponse"),
    ('"MARKET_GERMAN", "MARKET_ENGLISH"] }', '"MARKET_GREEK"] }', "is no acme.legacy.InfoResponse"),
    ("acme.binpb", "acne.binpb", "cannot be read"),
    ("acme.binpb", "acme_recs.proto", "is no FileDescriptorSet"),
    (
        'page_token = "page_token"',
        'page_token = "page_token"\noffset = "page_size"',
        "a page has an offset or a token",
    ),
    ('"next_page_token" = "next_page_token"', '"next_page_token" = "explain"', "is none"),
    ("integers = [", "integer = [", "did you mean 'integers'?"),
    (
        'surface = [{ path = "header.page" }, ',
        'surface = [{ path = "header.page", const = "x" }, ',
        "needs one of path, const, metadata and tensor",
    ),
    ('surface = [{ path = "header.page" }', "surface = [7", "must be a table, got 7"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that mappings name."""
    made = tmp_path_factory.mktemp("mappings")
    shutil.copytree(HERE / "protos", made / "protos")
    return made


@pytest.mark.parametrize(("written", "instead", "told"), CHANGES, ids=[change[2] for change in CHANGES])
def test_a_broken_mapping_is_refused_where_it_is_broken(
    folder: Path, written: str, instead: str, told: str
) -> None:
    away = is_refused(folder, LEGACY, written, instead, told)
    # What is missing is told of the table that lacks it.
    assert away <= 2 or not instead


def test_mutations_of_a_good_mapping_are_refused_by_place(folder: Path) -> None:
    mutations_are_refused(folder, LEGACY, 200)
