from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from meshfold.compat.key import KeyedHash, keyed_hash, read_key, write_key
from meshfold.model.errors import InvalidConfig


def test_hashes_are_equal_under_one_key_and_others_under_another(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_key(tmp_path / name)
    one, again, other = (keyed_hash(str(tmp_path / name)) for name in ("one", "one", "other"))
    assert one.user_id(12345) == again.user_id(12345) != other.user_id(12345)
    assert one.user_key("AE22") == again.user_key("AE22") != other.user_key("AE22")
    assert one.request_id("r") == again.request_id("r") != one.user_key("r")
    assert KeyedHash().user_id(1) != KeyedHash().user_id(1)


def test_nobody_stays_nobody() -> None:
    keyed = KeyedHash(b"k" * 32)
    assert (keyed.user_id(0), keyed.user_key(""), keyed.request_id("")) == (0, "", "")
    for user_id in (-5, 1, (1 << 63) - 1, -(1 << 63)):
        assert 0 < keyed.user_id(user_id) < 1 << 63


def test_a_key_is_for_its_owner_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_key(path)) == 64
    before = path.read_bytes()
    with pytest.raises(InvalidConfig, match="would give every user another hash; name a new file"):
        write_key(path)
    assert path.read_bytes() == before
    with pytest.raises(InvalidConfig, match="cannot be written: No such file"):
        write_key(tmp_path / "none" / "key")


def test_a_line_end_behind_a_key_changes_nothing(tmp_path: Path) -> None:
    for name, end in (("one", b""), ("other", b"\r\n")):
        (tmp_path / name).write_bytes(b"s" * 32 + end)
        (tmp_path / name).chmod(0o440)
    assert read_key(tmp_path / "one") == read_key(tmp_path / "other")


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"s" * 32, 0o644, "has mode 0644; expected its owner alone to write it"),
        (b"s" * 32, 0o660, "has mode 0660"),
        (b"s" * 31 + b"\n", 0o600, "holds 31 bytes; expected 32 to 4096"),
        (b"s" * 5000, 0o600, "holds more than 4096 bytes"),
        (None, 0, "cannot be read: No such file or directory; `meshfold shadow key --out FILE` makes one"),
    ],
)
def test_a_key_that_does_not_do_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, expected: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        os.chmod(path, mode)
    with pytest.raises(InvalidConfig, match=re.escape(expected)):
        keyed_hash(str(path))
