from __future__ import annotations

from pathlib import Path

import pytest

from meshfold.compat.hydration.hydration import open_hydration
from meshfold.compat.hydration.settings import read_settings
from meshfold.model.errors import InvalidConfig


def test_settings_of_each_surface_are_read(tmp_path: Path) -> None:
    file = tmp_path / "hydrate.toml"
    file.write_text(
        '[hydrate.shop]\nfile = "a.parquet"\ndeadline_s = 1\n[hydrate."b c"]\nredis = "redis://h"\n'
    )
    settings = read_settings(file)
    assert settings["shop"].file == str(tmp_path / "a.parquet")
    assert settings["shop"].deadline_s == 1.0
    assert settings["b c"].redis == "redis://h"


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("", "no surface is set"),
        ("[hydrat.shop]", "unknown table 'hydrat'"),
        ("[hydrate]\nshop = 1", "hydrate.shop must be a table"),
        ("x = [", "is not a TOML file"),
        ("[hydrate.shop]", "set exactly one of file, redis, function; none is set"),
        ('[hydrate.shop]\nfile="a"\nredis="b"', "file and redis is set"),
        ('[hydrate.shop]\nfil="a"', "unknown setting fil; did you mean 'file'?"),
        ("[hydrate.shop]\nfile=1", "hydrate.shop.file must be a text, got 1"),
        ('[hydrate.shop]\nfile="a"\nfeatures="x"', "must be a list of texts"),
        ('[hydrate.shop]\nfile="a"\nthreads=true', "must be a whole number"),
        ('[hydrate.shop]\nfile="a"\nthreads=0', "threads must be at least 1"),
        ('[hydrate.shop]\nfile="a"\ndeadline_s=0', "deadline_s must be above 0"),
        ('[hydrate.shop]\nfile="a"\nmiss="nothing"', "miss must be empty or error"),
        ('[hydrate.shop]\nfile="a"\nhistory=false\nfeatures=[]', "nothing is filled in"),
        ('[hydrate.shop]\nredis="redis://h"\nkey="user"', "key must hold {user} once"),
        ('[hydrate.shop]\nredis="http://h:secret@x"', "redis must be a URL such as redis://HOST:6379/0"),
        ('[hydrate.shop]\nfunction="json"', "function must be MODULE:NAME"),
        ('[hydrate.shop]\nfunction="json:none"', "json has no function none"),
        ('[hydrate.shop]\nfunction="no_such_module:f"', "no_such_module cannot be imported"),
        ('[hydrate.shop]\nfile="none.parquet"', "none.parquet: No such file or directory"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, toml: str, text: str) -> None:
    if "redis=" in toml:
        pytest.importorskip("redis")
    file = tmp_path / "hydrate.toml"
    file.write_text(toml)
    with pytest.raises(InvalidConfig) as caught:
        open_hydration(file)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
