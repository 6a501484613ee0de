"""Lines of TOML keys, codecs of ids, page tokens, a module of one's own."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from meshfold.commands.__main__ import ADAPTERS, main
from meshfold.compat.mapped.codecs import codec_of
from meshfold.compat.mapped.errors import Misfit
from meshfold.compat.mapped.paging import Page, _ids_of, next_token
from meshfold.compat.mapped.registration import adapters_of
from meshfold.compat.mapped.toml_lines import line_at, lines_of
from meshfold.model.errors import InvalidConfig, InvalidQuery
from meshfold.service.config import ServerConfig
from tests.compat.mapped.conftest import HERE

TEXT = '''# [not.a.table]
[a."b.c"]
x = 1
"y = [" = """
[z]
q = 2
"""
list = [
    { path = "p" },
    { path = "q", deep = 1 },
]
[[a.d]]
one = "]"
[[a.d]]
one = 2
two.three = 'x'
'''


def test_lines_are_those_of_the_keys() -> None:
    lines = lines_of(TEXT)
    assert lines["a", "b.c"] == 2
    assert lines["a", "b.c", "x"] == 3
    assert lines["a", "b.c", "y = ["] == 4
    assert lines["a", "b.c", "list"] == 8
    assert lines["a", "d", 0, "one"] == 13
    assert lines["a", "d", 1, "one"] == 15
    assert lines["a", "d", 1, "two", "three"] == 16
    assert line_at(lines, ("a", "b.c", "list", 1, "deep")) == 8
    assert line_at(lines, ("unknown",)) == 1


@pytest.mark.parametrize(
    ("name", "text", "held"),
    [
        ("decimal", "12", 12),
        ("decimal", "-9223372036854775808", -(2**63)),
        ("base36", "c", 12),
        ("prefix:vid_", "vid_0", 0),
        ("base36:v-", "v-zz", 1295),
        ("strip:vid_", "vid_é", "é"),
    ],
)
def test_a_codec_is_exact_both_ways(name: str, text: str, held: int | str) -> None:
    codec: Any = codec_of(name)
    assert codec.decode(text) == held
    assert codec.encode(held) == text
    draw = random.Random(1)
    for _ in range(300):
        number = draw.getrandbits(64) - (1 << 63)
        if codec.has_integers:
            assert codec.decode(codec.encode(number)) == number


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("decimal", "012"),
        ("decimal", "9223372036854775808"),
        ("decimal", "1_0"),
        ("decimal", "१"),
        ("decimal", ""),
        ("base36", "C"),
        ("base36", "zzzzzzzzzzzzz"),
        ("prefix:vid_", "12"),
        ("strip:vid_", "vid_"),
    ],
)
def test_ids_that_would_not_come_back_as_they_were_are_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="must b"):
        codec_of(name).decode(text)


def test_unknown_codecs_name_the_nearest() -> None:
    with pytest.raises(Misfit, match="did you mean 'decimal'"):
        codec_of("decimals")


@pytest.mark.parametrize("ids", [np.array([1, -5, 2**63 - 1]), ("a", "é", "")])
def test_a_token_holds_what_was_shown(ids: Any) -> None:
    shown = () if isinstance(ids, tuple) else np.empty(0, np.int64)
    token = next_token(Page(0, 3, shown), ids)
    assert list(_ids_of(token, "t")) == list(ids)
    again = next_token(Page(0, 3, _ids_of(token, "t")), ids)
    assert list(_ids_of(again, "t")) == [*ids, *ids]
    assert next_token(Page(0, 4, shown), ids) == ""
    for broken in (token[:-1], token[1:], "!" + token, token + "AAAA"):
        with pytest.raises(InvalidQuery, match="start again without it"):
            _ids_of(broken, "t")


OWN = """
from meshfold.compat.mesh_v1.retrieve import decode, encode, measure, path
METHOD = "/mine.v1.Own/Ask"
"""


def test_a_module_is_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_adapter_of_a_test.py").write_text(OWN)
    Path("poor_adapter_of_a_test.py").write_text('METHOD = "/a.B/C"')
    adapters = adapters_of(ServerConfig(adapter="own_adapter_of_a_test"), ADAPTERS)
    assert [adapter.METHOD for adapter in adapters][-1] == "/mine.v1.Own/Ask"
    assert adapters[: len(ADAPTERS)] == ADAPTERS
    for name, told in (
        ("poor_adapter_of_a_test", "has no measure, decode, path, encode"),
        ("nowhere_at_all", "ModuleNotFoundError"),
        ("no path", "is no import path"),
        ("own_adapter_of_a_test,own_adapter_of_a_test", "is answered already"),
    ):
        with pytest.raises(InvalidConfig, match=told):
            adapters_of(ServerConfig(adapter=name), ADAPTERS)
    twice = f"{HERE / 'acme_recs.toml'},{HERE / 'acme_recs.toml'}"
    with pytest.raises(InvalidConfig, match="/acme.recs.v1.Recommender/Recommend is answered already"):
        adapters_of(ServerConfig(mapping=twice), ADAPTERS)
    taken = SimpleNamespace(METHOD="/acme.recs.v1.Recommender/Recommend")
    with pytest.raises(InvalidConfig, match="is answered already"):
        adapters_of(ServerConfig(mapping=str(HERE / "acme_recs.toml")), [taken])


def test_adapt_begins_checks_and_explains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first.toml"
    words = ["adapt", "init", "--descriptors", str(HERE / "protos" / "acme.binpb"), "--out", str(first)]
    assert main(words) == 0
    assert main(words) == 1
    assert "is there already; name a new file" in capsys.readouterr().err
    # What is required and undecided is told by line.
    assert main(["adapt", "check", str(first)]) == 1
    assert "acme.legacy.Video.score is required" in capsys.readouterr().err
    requests = tmp_path / "requests"
    requests.mkdir()
    (requests / "a.json").write_text('{"page": "shop", "limit": 3, "watched": ["vid_1"]}')
    (requests / "b.json").write_text('{"watched": ["1"]}')
    (requests / "c.bin").write_bytes(b"\xff")
    mapping = str(HERE / "acme_recs.toml")
    assert main(["adapt", "check", mapping, "--recording", str(requests)]) == 1
    told = capsys.readouterr().out
    assert "b.json: watched[0]: must be 'vid_' and an integer in base 10, got '1'" in told
    assert "c.bin: request: the bytes are not a acme.recs.v1.RecommendRequest" in told
    assert "3 requests, 2 refused, 0 fields ignored" in told
    (requests / "d.json").write_text('{"page": "shop", "pgae": 3}')
    assert main(["adapt", "explain", mapping, str(requests / "d.json")]) == 1
    assert "is no acme.recs.v1.RecommendRequest in JSON" in capsys.readouterr().err
    assert (
        main(["adapt", "explain", mapping, str(requests / "a.json"), "--store", str(tmp_path / "gone")]) == 1
    )
    assert "gone is no store; `meshfold build` publishes to one" in capsys.readouterr().err


def test_check_tells_what_the_mapping_ignores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (HERE / "acme_recs.toml").read_text()
    mapping = tmp_path / "less.toml"
    mapping.write_text(
        text.replace("protos/", f"{HERE}/protos/")
        .replace('offset = "offset"\n', "")
        .replace('user_id = "user"\n', "")
    )
    request = tmp_path / "r.json"
    request.write_text('{"user": "u", "offset": 4, "languages": ["de"]}')
    assert main(["adapt", "check", str(mapping), "--recording", str(request)]) == 0
    told = capsys.readouterr().out
    assert "ignored: user, set by 1 of 1 requests" in told
    assert "ignored: offset, set by 1 of 1 requests" in told
    assert "1 requests, 0 refused, 2 fields ignored" in told
