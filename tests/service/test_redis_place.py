from __future__ import annotations

import pytest

from meshfold.model.errors import InvalidConfig
from meshfold.service.redis_place import is_redis, place_within, redis_place


@pytest.mark.parametrize(
    ("url", "name", "options"),
    [
        ("redis://h", "redis://h:6379/0/meshfold", {"host": "h", "port": 6379, "db": 0}),
        ("redis://h:7/3/a/b", "redis://h:7/3/a/b", {"host": "h", "port": 7, "db": 3}),
        ("redis://h:7/a", "redis://h:7/0/a", {"host": "h", "port": 7, "db": 0}),
        ("redis://[::1]:7/1/", "redis://[::1]:7/1/meshfold", {"host": "::1", "port": 7, "db": 1}),
        ("redis://h/?db=2&prefix=p", "redis://h:6379/2/p", {"host": "h", "port": 6379, "db": 2}),
        (
            "redis://me:se%2Fcret@h/0/p",
            "redis://h:6379/0/p",
            {"host": "h", "port": 6379, "db": 0, "username": "me", "password": "se/cret"},
        ),
        (
            "rediss://:secret@h/0/p?ssl_ca_certs=/ca.pem",
            "rediss://h:6379/0/p",
            {
                "host": "h",
                "port": 6379,
                "db": 0,
                "ssl": True,
                "ssl_ca_certs": "/ca.pem",
                "password": "secret",
            },
        ),
        (
            "unix:///run/redis.sock?db=1&prefix=p",
            "unix:///run/redis.sock?db=1&prefix=p",
            {"unix_socket_path": "/run/redis.sock", "db": 1},
        ),
    ],
)
def test_a_url_names_a_place_and_the_place_no_password(
    url: str, name: str, options: dict[str, object]
) -> None:
    place = redis_place(url)
    assert (place.name, place.options) == (name, options)
    assert "cret" not in repr(place)
    if "password" in options:
        assert place.hidden(f"AUTH\n{options['password']}") == "AUTH ***"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis:///0/p", "the number of the database"),
        ("redis://:secret@h:x/0/p", "Port could not be cast"),
        ("redis://:secret@h/0/p?socket_timeout=60", "unknown options socket_timeout"),
        ("redis://:secret@h/0/p#x", "unknown options after #"),
        ("redis://h/x?db=many", "invalid literal"),
        ("redis://h/0/a%0Ab", "printable characters"),
        ("redis://h/0/" + "x" * 201, "1 to 200 printable"),
        ("unix://", "the path of the socket is missing"),
    ],
)
def test_what_is_no_place_is_told_with_the_forms_and_without_the_password(url: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=f"redis://HOST:6379/0/PREFIX.*{said}") as caught:
        redis_place(url)
    assert "secret" not in str(caught.value)


def test_a_folder_holds_a_file_of_each_name_and_a_place_in_redis_all_of_them() -> None:
    assert place_within("state", "denied") == "state/denied.json"
    assert place_within("redis://h/0/p", "denied") == "redis://h/0/p"
    assert not is_redis("redis/modes.json")
