from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from meshfold.kernels.native import library
from meshfold.model.errors import InvalidConfig
from meshfold.model.limits import Limits
from meshfold.model.residence import Residuals
from meshfold.service.config import (
    KERNELS,
    RESIDUALS,
    SETTINGS,
    ServerConfig,
    add_flags,
    check_kernels,
    read_config,
)
from meshfold.service.ports import NO_ADDRESS


def read(*flags: str, environ: Mapping[str, str] | None = None) -> ServerConfig:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_config(parser.parse_args(flags), environ or {})


def test_a_command_can_leave_out_what_it_decides_itself() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, leave_out=("store",))
    assert "--store" not in parser.format_help()
    assert read_config(parser.parse_args(["--device", "meta"]), {}) == ServerConfig(device="meta")


def test_nothing_given_is_the_defaults() -> None:
    assert read() == ServerConfig()


def test_flags_win_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "meshfold.toml"
    file.write_text(
        'address = "0.0.0.0:1"\nmax_batch = 1\nqueue_limit = 1\npoll_interval_s = 2\n'
        'store = "a"\n[limits]\nmax_results = 5\nmax_fields = 6\n'
    )
    environ = {"MESHFOLD_QUEUE_LIMIT": "2", "MESHFOLD_MAX_BATCH": "2", "MESHFOLD_LIMITS_MAX_FIELDS": "7"}
    config = read("--config", str(file), "--max-batch", "3", environ=environ)
    assert config == ServerConfig(
        address="0.0.0.0:1",
        max_batch=3,
        queue_limit=2,
        poll_interval_s=2.0,
        store=Path("a"),
        limits=Limits(max_results=5, max_fields=7),
    )
    assert read("--max-batch", "3", environ=environ | {"MESHFOLD_CONFIG": str(file)}) == config


def test_every_setting_can_be_given_in_every_way(tmp_path: Path) -> None:
    other = {bool: "true", int: "33", float: "0.5", str: "localhost:7", Path: "elsewhere"}
    for key, setting in SETTINGS.items():
        text = other[setting.kind]
        expected = setting.kind(text)
        valid = {
            "residuals": "host",
            "migration.compression": "gzip",
            "recording.user_ids": "keep",
            "recording.omit": "history",
            "recording.bytes": "1048577",
            "comparison.surface_shares": "feed=0.5",
            "comparison.bytes": "1048577",
            "assignments.bytes": "1048577",
            "queue_bytes": "4194305",
        }
        if key in valid:
            text, expected = valid[key], setting.kind(valid[key])
        *table, name = setting.path
        file = tmp_path / f"{key}.toml"
        toml = text if setting.kind in (bool, int, float) else f'"{text}"'
        file.write_text("".join(f"[{part}]\n" for part in table) + f"{name} = {toml}\n")
        for config in (
            read(setting.flag, text),
            read(environ={setting.env: text}),
            read("--config", str(file)),
        ):
            value: object = config
            for part in setting.path:
                value = getattr(value, part)
            assert value == expected, key


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        (["--max-batch", "x"], {}, "--max-batch must be a whole number, got 'x'"),
        ([], {"MESHFOLD_POLL_INTERVAL_S": "soon"}, "MESHFOLD_POLL_INTERVAL_S must be a number, got 'soon'"),
        ([], {"MESHFOLD_ADRESS": "a:1"}, "unknown setting MESHFOLD_ADRESS .* 'MESHFOLD_ADDRESS'"),
        (["--max-batch", "0"], {}, "max_batch must be at least 1, got 0"),
        (["--queue-limit", "0"], {}, "queue_limit must be at least 1, got 0"),
        (["--queue-bytes", "0"], {}, "queue_bytes must be at least 1, got 0"),
        (["--unread-bytes", "0"], {}, "unread_bytes must be at least 1, got 0"),
        (["--queue-s", "0"], {}, "queue_s must be above 0 and below a day, got 0.0"),
        (["--queue-s", "nan"], {}, "queue_s must be above 0 and below a day, got nan"),
        (["--timeout-s", "86400"], {}, "timeout_s must be above 0 and below a day, got 86400.0"),
        (["--timeout-s", "soon"], {}, "--timeout-s must be a number, got 'soon'"),
        (["--admin-address", "localhost"], {}, "admin_address must be host:port"),
        (["--admin-address", "nowhere"], {}, "admin_address must be host:port"),
        (["--poll-interval-s", "nan"], {}, "poll_interval_s must be above 0"),
        (["--shutdown-grace-s", "-1"], {}, "shutdown_grace_s must be at least 0"),
        ([], {"MESHFOLD_HANDLER_THREADS": "160"}, "unknown setting MESHFOLD_HANDLER_THREADS"),
        (["--limits-max-results", "-5"], {}, "limits.max_results must be at least 1"),
        (["--metrics-address", "unix:x"], {}, "metrics_address must be host:port or"),
        (["--mesh", "orchestrator"], {}, "mesh must be host:port"),
        (["--mesh", "a:1,b"], {}, "several with commas; got 'b'"),
        (["--mesh", "a:1,"], {}, "several with commas; got ''"),
        (["--mesh", "a:1, b:2"], {}, "several with commas; got ' b:2'"),
        (["--mesh", "dns://8.8.8.8/a:1"], {}, "mesh must be host:port"),
        (["--mesh", "dns:///a"], {}, "mesh must be host:port"),
        (["--mesh", "ipv4:1.2.3.4:5"], {}, "mesh must be host:port"),
        (["--mesh", "http://a:1"], {}, "mesh must be host:port"),
        (["--mesh", "a:1", "--mesh", "a:1"], {}, "mesh must name each address once, got 'a:1,a:1'"),
        (["--metadata-bytes", "0"], {}, "metadata_bytes must be at least 1, got 0"),
        (["--metadata-bytes", "67108865"], {}, "queue_bytes must be at least metadata_bytes, 67108865"),
        (["--connection-age-s", "0"], {}, "connection_age_s must be above 0 and below a day, got 0.0"),
        (["--migration-keepalive-s", "0"], {}, "migration.keepalive_s must be above 0"),
        (["--migration-keepalive-timeout-s", "-1"], {}, "migration.keepalive_timeout_s must be above 0"),
        (["--migration-streams-keepalive-s", "nan"], {}, "migration.streams_keepalive_s must be above 0"),
        (
            ["--migration-passed-idle-s", "86400"],
            {},
            "migration.passed_idle_s must be above 0 and below a day",
        ),
        (["--migration-passed-calls", "0"], {}, "migration.passed_calls must be at least 1, got 0"),
        (["--migration-fallback", "yes"], {}, "--migration-fallback must be true or false, got 'yes'"),
        (["--address", "localhost"], {}, "address must be host:port"),
        (["--address", ":50051"], {}, "address must be host:port"),
        (["--address", "http://localhost:5"], {}, "address must be host:port"),
        (["--config", "missing.toml"], {}, "missing.toml cannot be read: No such file"),
        (["--residuals", "disk"], {}, "residuals must be device or host, got 'disk'"),
        (["--residuals", "host", "--device", "cuda:0,cuda:1"], {}, "for one device only, got cuda:0,cuda:1"),
        (["--cuda-graphs", "-1"], {}, "cuda_graphs must be at least 0, got -1"),
    ],
)
def test_a_setting_that_does_not_fit_says_so(flags: list[str], environ: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        read(*flags, environ=environ)


@pytest.mark.parametrize(
    ("flags", "addresses"),
    [
        ([], ()),
        (["--mesh", "a:1"], ("a:1",)),
        (["--mesh", "a:1,b:2"], ("a:1", "b:2")),
        (["--mesh", "a:1", "--mesh", "b:2"], ("a:1", "b:2")),
        (["--mesh", "a:1,b:2", "--mesh", "[::1]:3"], ("a:1", "b:2", "[::1]:3")),
        (["--mesh", "dns:///mesh.svc:5,unix:/run/mesh"], ("dns:///mesh.svc:5", "unix:/run/mesh")),
    ],
)
def test_a_mesh_may_have_several_addresses(flags: list[str], addresses: tuple[str, ...]) -> None:
    assert read(*flags).mesh_addresses == addresses
    assert read(environ={"MESHFOLD_MESH": ",".join(addresses)}).mesh_addresses == addresses


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_bach = 1", "unknown setting max_bach; did you mean 'max_batch'?"),
        ("[limits]\nmax_result = 1", "unknown setting limits.max_result; did you mean 'limits.max_results'?"),
        ("limits = 1", "unknown setting limits"),
        ('tuning = "tuning.toml"', "unknown setting tuning"),
        ('max_batch = "1"', "max_batch must be a whole number, got '1'"),
        ("max_batch = 1.5", "max_batch must be a whole number, got 1.5"),
        ("max_batch = true", "max_batch must be a whole number, got True"),
        ("store = 1", "store must be a text, got 1"),
        ("max_batch =", "is not a TOML file"),
    ],
)
def test_a_file_that_does_not_fit_says_so(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "meshfold.toml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        read("--config", str(file))
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "meshfold.toml"
    file.write_text("max_batch = 3\n", encoding="utf-8-sig")
    assert read("--config", str(file)).max_batch == 3


def test_residuals_are_named_as_the_model_names_them() -> None:
    assert [residuals.value for residuals in Residuals] == list(RESIDUALS)


def test_what_kubernetes_sets_beside_a_service_of_our_name_is_not_a_setting() -> None:
    environ = {
        "MESHFOLD_SERVICE_HOST": "10.0.0.1",
        "MESHFOLD_SERVICE_PORT_GRPC": "50051",
        "MESHFOLD_PORT": "tcp://10.0.0.1:50051",
        "MESHFOLD_CANARY_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    assert read(environ=environ) == ServerConfig()


def test_what_the_kernels_read_is_not_a_setting() -> None:
    environ = {"MESHFOLD_KERNELS": "avx2", "MESHFOLD_KERNELS_LIBRARY": "/somewhere/_native.so"}
    assert read(environ=environ) == ServerConfig()


def test_the_levels_of_the_kernels_are_theirs() -> None:
    assert (library._REFERENCE, *library._LEVELS) == KERNELS
    for level in ("", *KERNELS):
        check_kernels({"MESHFOLD_KERNELS": level})
    with pytest.raises(InvalidConfig, match="MESHFOLD_KERNELS must be one of reference, .*, got 'avx9'"):
        check_kernels({"MESHFOLD_KERNELS": "avx9"})


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:50051", "host.example:1", "unix:/tmp/meshfold"])
def test_addresses_that_can_be_listened_on(address: str) -> None:
    assert ServerConfig(address=address).address == address
    assert ServerConfig(admin_address=address).admin_address == address


def test_operators_may_have_no_address_and_one_of_the_servers_choice() -> None:
    assert ServerConfig().admin_address == ""
    assert ServerConfig(admin_address=NO_ADDRESS).admin_address == NO_ADDRESS


def test_help_names_the_unit_of_times_and_not_of_rates() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    said = parser.format_help()
    assert "--comparison-noise-delay-s SECONDS" in said
    assert "--comparison-pairs-per-s NUMBER" in said
