"""Contexts and sessions over a store."""

from pathlib import Path

import pytest

from heroscript.errors import BadKey, MissingKey, StoreError
from heroscript.kvs import Collection
from heroscript.session import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Collection(tmp_path, is_durable=False))


def test_names_sessions_by_time(context: Context) -> None:
    """Two sessions made in one second have different names."""
    names = {context.session_new().name for _ in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize("name", ["ab", "a/../b", "a..b", "x y z", "../../x"])
def test_refuses_an_unsafe_name(context: Context, name: str) -> None:
    """A name is checked when the session is made."""
    with pytest.raises(BadKey):
        context.session_new(name)
    with pytest.raises(BadKey):
        Context(context.stores, name)


def test_loads_what_was_saved(context: Context) -> None:
    """Parameters, times and the flag come back; the environment does not."""
    session = context.session_new("first", params="a:1", start="2024-01-02 03:04", interactive=False)
    session.params.set("b", "two words")
    session.env_set("SECRET", "x")
    session.save()
    context.session_new("second")
    again = context.session_get("first")
    assert again.params.get_map() == {"a": "1", "b": "two words"}
    assert (again.start, again.interactive, again.env, again.guid) == (session.start, False, {}, "0:default:first")
    assert context.session_get().name == context.session_latest().name == "second"
    with pytest.raises(MissingKey):
        context.session_get("third")


def test_keeps_an_environment(context: Context) -> None:
    """Words of the environment are put into actions that are not done."""
    session = context.session_latest()
    session.env_set_once("WHO", "ann")
    with pytest.raises(StoreError):
        session.env_set_once("WHO", "bob")
    session.plbook.add("!!a.b who:{WHO}")
    session.env_substitute()
    assert session.plbook.actions[0].params.get("who") == session.env_get("WHO") == "ann"
    session.env_delete("WHO")
    with pytest.raises(MissingKey):
        session.env_get("WHO")


def test_stores_belong_to_the_session_or_the_context(context: Context) -> None:
    """`db_get` is the session's own, `db_config_get` is shared."""
    one, two = context.session_new("one"), context.session_new("two")
    one.db_get().set("k", "1")
    context.db_config_get().set("k", "shared")
    assert not two.db_get().exists("k")
    assert one.db_get().get("k") == "1"


def test_writes_itself_as_heroscript(context: Context) -> None:
    """Its context, itself, its parameters, its priorities, then what is left of its playbook."""
    session = context.session_new("one", params="a:1 x", start="2024-01-02 03:04")
    session.playbook_priorities_add({1: "c.*"})
    session.plbook.add("!!a.b\n!!c.d")
    assert session.heroscript() == (
        "!!core.context_define name:default interactive:true\n\n"
        "!!core.session_define name:one context:default start:'2024-01-02 03:04:00' interactive:true\n\n"
        "!!core.params_session_set x a:1\n\n!!session.priorities_add nr:1 filter:'c.*'\n\n"
        "!!a.b id:1\n\n!!c.d id:2\n"
    )
    assert str(session) == "session:0:default:one start:'2024-01-02 03:04'"
