from pathlib import Path

import pytest

from meshfold.model.data.schema_file import MAX_BYTES, SchemaFile
from meshfold.model.errors import InvalidData
from meshfold.model.filter.expression import Match
from meshfold.model.schema import Field, FieldKind, Input, InputKind, Schema
from meshfold.model.value.config import ValueConfig, Weight

WHOLE = """
surface = "shop"
[items]
source = "items.csv"
id = "item_id"
[fields.colour]
kind = "category"
[fields.sizes]
kind = "integers"
column = "sizes_cm"
separator = ";"
[interactions]
source = "events.csv"
user = "user"
item = "item"
time = "at"
[tasks.view]
[tasks.buy]
where = 'kind == "buy"'
"""


def _read(path: Path, text: str) -> SchemaFile:
    (path / "schema.toml").write_text(text)
    return SchemaFile.read(path / "schema.toml")


def test_a_whole_file(tmp_path: Path) -> None:
    read = _read(tmp_path, WHOLE)
    fields = (Field("colour", FieldKind.CATEGORY), Field("sizes", FieldKind.INTEGERS))
    assert read.schema == Schema("shop", fields, ("view", "buy"))
    assert (read.items.source, read.items.id, read.items.vector) == (tmp_path / "items.csv", "item_id", "")
    assert [(f.column, f.separator) for f in read.fields] == [("colour", None), ("sizes_cm", ";")]
    assert read.interactions is not None
    assert read.interactions.source == tmp_path / "events.csv"
    assert read.tasks == {"view": None, "buy": Match("kind", ("buy",))}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("surface =", "surfaces =", r"surfaces is no key of a schema file; did you mean 'surface'"),
        ("id =", "idd =", r"items\.idd is no key of a schema file; did you mean 'id'"),
        ("column =", "colum =", r"fields\.sizes\.colum is no key .* 'column'"),
        ("where =", "were =", r"tasks\.buy\.were is no key .* 'where'"),
        ("time =", "stamp =", r"interactions\.stamp is no key"),
        ('surface = "shop"', "", r"surface is missing; set it to a string"),
        ('id = "item_id"', "", r"items\.id is missing"),
        ('surface = "shop"', "surface = 3", r"surface must be a string, got 3"),
        ('surface = "shop"', 'surface = "my shop"', r"surface name 'my shop' must be"),
        ('surface = "shop"', 'surface = "shop"\nexclude_history = 1', r"must be true or false, got 1"),
        ('kind = "category"', "", r"fields\.colour\.kind is missing"),
        ('kind = "category"', 'kind = "colour"', r"'colour', expected one of category, categories"),
        *(
            (
                'kind = "category"',
                f'kind = "{kind}"\nseparator = "|"',
                rf"no meaning for kind {kind}, which holds one value; drop it, or set kind to categories or integers",
            )
            for kind in FieldKind
            if not kind.many
        ),
        ("[fields.colour]\nkind", "[fields]\ncolour", r"fields\.colour must be a table, got 'category'"),
        ("[tasks.view]\n[tasks.buy]\nwhere = 'kind == \"buy\"'", "", r"has no task"),
        ('kind == "buy"', "kind = buy", r"tasks\.buy\.where: "),
        ("[items]", "[items", r"is not TOML"),
    ],
)
def test_a_key_that_does_not_fit_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WHOLE
    with pytest.raises(InvalidData, match=rf"schema\.toml: .*{message}"):
        _read(tmp_path, WHOLE.replace(old, new, 1))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path, newline: str) -> None:
    (tmp_path / "schema.toml").write_bytes(WHOLE.strip().replace("\n", newline).encode("utf-8-sig"))
    assert SchemaFile.read(tmp_path / "schema.toml").schema.surface == "shop"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_another_encoding_is_told(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "schema.toml").write_bytes(WHOLE.replace("colour", "çolour").encode(encoding))
    with pytest.raises(InvalidData, match=r"schema\.toml: is not TOML"):
        SchemaFile.read(tmp_path / "schema.toml")


INPUTS = """
[inputs.country]
kind = "strings"
[inputs.search]
kind = "text"
length = 12
[inputs.clock]
kind = "floats"
length = 4096
[inputs.ages]
kind = "ints"
"""
VALUES = """
[weights]
like = { default = 0.7, min = 0, max = 2.0 }
[formulas]
default = "mixed"
mixed = "weights.like * view + 0.3 * buy"
"""


def test_inputs_are_read_in_order(tmp_path: Path) -> None:
    assert _read(tmp_path, WHOLE).schema.inputs == ()
    assert _read(tmp_path, WHOLE + INPUTS).schema.inputs == (
        Input("country", InputKind.STRINGS, 1),
        Input("search", InputKind.TEXT, 12),
        Input("clock", InputKind.FLOATS, 4096),
        Input("ages", InputKind.INTS, 1),
    )


def test_weights_and_formulas_are_read(tmp_path: Path) -> None:
    assert _read(tmp_path, WHOLE).value is None
    assert _read(tmp_path, WHOLE + "[formulas]\n").value is None
    assert _read(tmp_path, WHOLE + VALUES).value == ValueConfig(
        {"mixed": "weights.like * view + 0.3 * buy"}, "mixed", {"like": Weight(0.7, 0.0, 2.0)}
    )
    alone = _read(tmp_path, WHOLE + '[formulas]\nhalf = "similarity / 2"').value
    assert alone == ValueConfig({"half": "similarity / 2"}, "similarity")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "strings"', "", r"inputs\.country\.kind is missing"),
        ('kind = "strings"', 'kind = "string"', r"'string', expected one of ints, floats, strings, text"),
        ('kind = "strings"', "kind = 1", r"inputs\.country\.kind must be a string"),
        ("length = 12", "lenght = 12", r"inputs\.search\.lenght is no key .* 'length'"),
        ("length = 12", "length = 0", r"input search must have length 1 to 4096, got 0"),
        ("length = 4096", "length = 4097", r"input clock must have length 1 to 4096, got 4097"),
        ("length = 12", "length = -1", r"got -1"),
        ("length = 12", "length = 1.5", r"inputs\.search\.length must be a whole number, got 1\.5"),
        ("length = 12", "length = true", r"inputs\.search\.length must be a whole number, got True"),
        ("[inputs.country]", "[inputs.history]", r"'history' is an input of every tower already"),
        ("[inputs.country]", "[inputs.query_vector]", r"'query_vector' is an input"),
        ("[inputs.country]", '[inputs."a b"]', r"input name 'a b' must be"),
        ("[inputs.country]\nkind", "[inputs]\ncountry", r"inputs\.country must be a table"),
        ("default = 0.7", "default = 2.5", r"weights\.like: the default must lie between"),
        ("default = 0.7", "standard = 0.7", r"weights\.like\.standard is no key"),
        ("max = 2.0", 'max = "2"', r"weights\.like\.max must be a number"),
        ("max = 2.0", "max = nan", r"weights\.like\.max must be a number"),
        (", max = 2.0", "", r"weights\.like\.max is missing"),
        ("[weights]\nlike = {", "[weights]\nlike = 3 # {", r"weights\.like must be a table"),
        ('default = "mixed"', 'default = "mxied"', r"formulas\.default names no formula 'mxied'; did you"),
        ('mixed = "', "mixed = 3 # ", r"formulas\.mixed must be a string, got 3"),
        ("mixed = ", "similarity = ", r"formulas\.similarity is built in"),
        ("[formulas]", "[formula]", r"formula is no key of a schema file; did you mean 'formulas'"),
    ],
)
def test_what_does_not_fit_of_inputs_and_values_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    whole = WHOLE + INPUTS + VALUES
    assert old in whole
    with pytest.raises(InvalidData, match=rf"schema\.toml: .*{message}"):
        _read(tmp_path, WHOLE + (INPUTS + VALUES).replace(old, new, 1))


def test_a_where_needs_interactions(tmp_path: Path) -> None:
    start, end = WHOLE.index("[interactions]"), WHOLE.index("[tasks.view]")
    with pytest.raises(InvalidData, match=r"no \[interactions\]"):
        _read(tmp_path, WHOLE[:start] + WHOLE[end:])


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="cannot be read: No such file"):
        SchemaFile.read(tmp_path / "schema.toml")
    with pytest.raises(InvalidData, match=f"at most {MAX_BYTES} bytes"):
        _read(tmp_path, "#" * (MAX_BYTES + 1))
    (tmp_path / "schema.toml").write_bytes(b'surface = "\xff"')
    with pytest.raises(InvalidData, match="is not TOML"):
        SchemaFile.read(tmp_path / "schema.toml")
