"""The getters of `Params`, and changing parameters."""

from pathlib import Path

import pytest

from heroscript import OurTime, Params, ParseError
from heroscript.errors import BadKey, MalformedParam, MissingParam

TEXT = """
    name:'  Ada ' age:36 minus:-7 plus:+5 big:99999999999 byte:256 half:50% ratio:'.5' empty:'' secret:hunter2
    yes:'Yes ' no:'n o' on:on off:off odd:maybe
    list:'a, "b c",,d' numbers:[1,2,3] reals:'1.5, 2' words:'My-Name,Other Name'
    kb:10KB mb:2049mb gb:1GB plain:12 tb:1TB
    noon:12PM midnight:12am clock:'16:21' day:24 late:'24:01' minutes:'10:60' afternoon:'8:07 pm'
    when:'2022-12-5 20:14:35' soon:+1h mail:'Joe@X.ORG ' tel:'+32-475 12' inner:"a:1 b:'x y'"
    here:/ nowhere:/no/such/place my_key:v x/y:z colour:'red' huge:1e999 gap:'1,,2' Arg two 13
"""


@pytest.fixture
def params() -> Params:
    return Params.parse(TEXT)


GOOD = [
    ("get", "name", "Ada"),
    ("get", "NAME ", "Ada"),
    ("get", "my-key", "v"),
    ("get", "x/y", "z"),
    ("get", "empty", ""),
    ("get_int", "age", 36),
    ("get_int", "minus", -7),
    ("get_int", "plus", 5),
    ("get_u64", "big", 99999999999),
    ("get_i64", "big", 99999999999),
    ("get_u16", "byte", 256),
    ("get_float", "ratio", 0.5),
    ("get_float", "half", 0.5),
    ("get_percentage", "half", 0.5),
    ("get_percentage", "age", 0.36),
    ("get_default_true", "yes", True),
    ("get_default_true", "empty", True),
    ("get_default_true", "missing", True),
    ("get_default_true", "no", False),
    ("get_default_true", "odd", False),
    ("get_default_true", "on", True),
    ("get_default_false", "odd", True),
    ("get_default_false", "no", False),
    ("get_default_false", "off", False),
    ("get_default_false", "empty", False),
    ("get_default_false", "missing", False),
    ("get_list", "list", ["a", "b c", "d"]),
    ("get_list", "empty", []),
    ("get_list_int", "numbers", [1, 2, 3]),
    ("get_list_u8", "numbers", [1, 2, 3]),
    ("get_list_f64", "reals", [1.5, 2.0]),
    ("get_list_namefix", "words", ["my_name", "other_name"]),
    ("get_storagecapacity_in_bytes", "kb", 10240),
    ("get_storagecapacity_in_bytes", "plain", 12),
    ("get_storagecapacity_in_gigabytes", "kb", 1),
    ("get_storagecapacity_in_gigabytes", "mb", 3),
    ("get_storagecapacity_in_gigabytes", "plain", 12),
    ("get_timestamp", "noon", 43200),
    ("get_timestamp", "midnight", 0),
    ("get_timestamp", "clock", 58860),
    ("get_timestamp", "afternoon", 72420),
    ("get_timestamp", "day", 86400),
    ("get_email", "mail", "joe@x.org"),
    ("get_emails", "mail", ["joe@x.org"]),
    ("get_telnr", "tel", "3247512"),
    ("get_telnrs", "tel", ["3247512"]),
    ("get_path", "here", Path("/")),
    ("get_arg", 0, "Arg"),
    ("get_arg_int", 2, 13),
    ("exists", "Age", True),
    ("exists", "Arg", False),
    ("exists_arg", " aRG", True),
    ("exists_arg", "age", False),
]


@pytest.mark.parametrize(("getter", "key", "value"), GOOD)
def test_gets(params: Params, getter: str, key: str, value: object) -> None:
    """A getter gives the value in its type."""
    assert getattr(params, getter)(key) == value


BAD = [
    ("get_int", "name"),
    ("get_int", "big"),
    ("get_int", "ratio"),
    ("get_int", "empty"),
    ("get_u8", "byte"),
    ("get_u8", "minus"),
    ("get_float", "name"),
    ("get_float", "huge"),
    ("get_percentage", "byte"),
    ("get_list_u8", "reals"),
    ("get_list_int", "gap"),
    ("get_list_f64", "gap"),
    ("get_storagecapacity_in_bytes", "tb"),
    ("get_storagecapacity_in_gigabytes", "minus"),
    ("get_timestamp", "late"),
    ("get_timestamp", "minutes"),
    ("get_timestamp", "secret"),
    ("get_time", "secret"),
    ("get_path", "nowhere"),
    ("get_arg_int", 0),
]


@pytest.mark.parametrize(("getter", "key"), BAD)
def test_refuses_a_malformed_value_without_showing_it(params: Params, getter: str, key: str) -> None:
    """A value that is there but malformed is an error that names the key and not the value."""
    with pytest.raises(MalformedParam) as raised:
        getattr(params, getter)(key)
    assert str(key) in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("getter", ["get", "get_int", "get_float", "get_list", "get_time", "get_path", "get_timestamp"])
def test_refuses_a_missing_key(params: Params, getter: str) -> None:
    """Without a default a missing key is an error."""
    with pytest.raises(MissingParam):
        getattr(params, getter)("missing")


def test_a_default_stands_for_a_missing_key_only(params: Params) -> None:
    """A default never hides a malformed value."""
    assert params.get_int_default("missing", 3) == 3
    assert params.get_default("empty", "x") == ""
    assert params.get_percentage_default("missing", "17") == 0.17
    assert params.get_list_default("missing", ["x"]) == ["x"]
    assert params.get_arg_default(9, "x") == "x"
    assert params.get_arg_int_default(9, 4) == 4
    with pytest.raises(MalformedParam):
        params.get_int_default("name", 3)
    with pytest.raises(MissingParam):
        params.get_arg(3)


def test_gets_times(params: Params) -> None:
    """A relative time is counted from the moment given."""
    now = OurTime.parse("2022-12-05 20:14:35")
    assert params.get_time("when") == now
    assert params.get_time("soon", now).unix == now.unix + 3600
    assert params.get_time_default("missing", now) == now


def test_makes_a_folder_on_demand(tmp_path: Path) -> None:
    """`get_path_create` makes the folder it gives; a leading `~` is the home folder, a later one is not."""
    params = Params()
    params.set("path", str(tmp_path / "a~b" / "c"))
    assert params.get_path_create("path").is_dir()
    params.set("path", "~")
    assert params.get_path("path") == Path.home()


def test_gets_what_an_alias_stands_for(params: Params) -> None:
    """The keys of the choices are comma-separated aliases."""
    choices = {"red,crimson": "#f00", "blue": "#00f"}
    assert params.get_from_hashmap("colour", "blue", choices) == "#f00"
    assert params.get_from_hashmap("missing", "blue", choices) == "#00f"
    with pytest.raises(MalformedParam):
        params.get_from_hashmap("name", "blue", choices)


def test_gets_parameters_inside_a_value(params: Params) -> None:
    """A value may hold parameters itself."""
    assert params.get_params("inner").get_map() == {"a": "1", "b": "x y"}


def test_checks_the_number_of_arguments(params: Params) -> None:
    """`check_arg_len` is exact."""
    params.check_arg_len(3)
    with pytest.raises(MalformedParam):
        params.check_arg_len(2)


@pytest.mark.parametrize(
    ("include", "exclude", "matches"),
    [
        ([], [], True),
        (["colour:red"], [], True),
        (["colour:red+two"], [], True),
        (["colour:red+three"], [], False),
        (["three", "two"], [], True),
        (["colour:r*"], [], True),
        (["colour:[rg]ed"], [], True),
        (["COLOUR: red"], [], True),
        (["arg"], [], False),
        (["tw*"], [], True),
        (["t[wx]o+colour:red"], [], True),
        (["four*"], [], False),
        ([], ["t?o"], False),
        ([], ["two"], False),
        (["two"], ["colour:r?d"], False),
    ],
)
def test_matches_filters(params: Params, include: list[str], exclude: list[str], matches: bool) -> None:
    """Any include matches unless any exclude does; terms joined with `+` must all hold."""
    assert params.filter_match(include, exclude) is matches


def test_changes_under_any_spelling() -> None:
    """One normalisation for set, exists, get and delete."""
    params = Params.parse("my_key:1 other:2")
    params.set("My-Key", "3")
    assert params.get_map() == {"other": "2", "my_key": "3"}
    assert params.delete("MY KEY") == "3"
    assert params.delete("my_key") is None
    with pytest.raises(BadKey):
        params.set("日本", "x")


def test_merges() -> None:
    """Later wins; arguments are joined."""
    params = Params.parse("a:1 b:2 x")
    params.merge(Params.parse("a:3 x y"))
    params.add("c:4")
    assert (params.get_map(), params.args) == ({"b": "2", "a": "3", "c": "4"}, ("x", "y"))
    with pytest.raises(ParseError):
        params.add("d:5 e@:6")
    assert not params.exists("d")


def test_replaces_names_in_braces() -> None:
    """A name nobody knows stays; names are compared as name_fix makes them."""
    params = Params.parse("a:'{NAME}-{other}' b:{Name}")
    params.replace({"NAME": "joe"})
    assert params.get_map() == {"a": "joe-{other}", "b": "joe"}


def test_repr_shows_no_value() -> None:
    """A value may be a password."""
    assert "hunter2" not in repr(Params.parse("secret:hunter2"))
