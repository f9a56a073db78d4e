"""Any text at all: `parse` raises nothing but its own error, and what is written is read back the same."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heroscript import OurTime, Params, ParseError, PlayBook, PlayError, parse
from heroscript.filters import glob
from heroscript.giturl import GitUrl

_PIECES = [
    "!!a.b", "!c", "\n", "\n  ", "\n    ", " ", "'", '"', "'''", '"""', "k:", "v", "k:v", "//", " // c", "#", " # h",
    "<!-- x -->", "<!--", "-->", "\\", "\\'", "\\\\n", "<BR>", ",", "a,b", "[", "]", "['a','b c']", ":", "x y", "\t",
    "\r\n", "{A}", "é", "日本", "![i](x)", "```", "/tmp/x", "id:5", "\x0c", "\xa0", "\u2028", "\x00", "-", "@",
    "k:'\n   a\n\n    b\n  '", "k:'c:\\ '", "'q a'", "\ufeff",
]  # fmt: skip
_TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))


@settings(max_examples=150, deadline=None)
@given(_TEXTS)
def test_any_text_is_read_or_located(text: str) -> None:
    """A text is read, or every mistake in it has a line and a column inside the text."""
    try:
        parse(text)
    except ParseError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert error.mistakes
        for mistake in error.mistakes:
            assert 1 <= mistake.line <= len(lines)
            assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1


@settings(max_examples=150, deadline=None)
@given(_TEXTS)
def test_what_is_written_is_read_back(text: str) -> None:
    """parse(heroscript()) gives equal actions, and writing those gives the same text."""
    try:
        book = PlayBook("!!x.y " + text)
    except ParseError:
        return
    written = book.heroscript()
    again = PlayBook(written)
    assert again.actions == book.actions
    assert again.heroscript() == written


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), _TEXTS, _TEXTS)), st.lists(_TEXTS))
def test_parameters_set_by_hand_are_read_back(items: list[tuple[str, str, str]], args: list[str]) -> None:
    """Whatever is set can be written and read."""
    params = Params()
    for key, value, comment in items:
        try:
            params.set(key, value, comment)
        except PlayError:
            continue
    for arg in args:
        params.set_arg(arg)
    assert Params.parse(params.heroscript()) == params


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="+-0123456789smhdwMQY/: ")))
def test_a_time_is_read_or_refused(text: str) -> None:
    """A time that is read can be written and read again to the minute."""
    try:
        moment = OurTime.parse(text)
    except PlayError:
        return
    assert OurTime.parse(str(moment)).unix == moment.unix // 60 * 60


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="htps:/@.-#abgit ").map("https://h.io/a/".__add__)))
def test_no_part_of_a_git_address_leaves_its_folder(text: str) -> None:
    """Whatever the address, no part of it is `..` or looks like an option."""
    try:
        url = GitUrl.parse(text)
    except PlayError:
        return
    for part in (url.host, url.account, url.name, url.branch, *url.path.split("/")):
        assert part != ".." and not (part.startswith("-") and part != "-")


_SLOW = [
    "!!a.b k:v j:'x y'\n", "!!a.b\n  k:'\n    one\n  '\n", "!!a.b @\n", "@ ", "'", "!!a.b k:'x\n", "    !!a.b k:'x\n",
    "\n", "// c\n", "  // c\n", "a, ", "k:a, \n  ", "k:\n   a\n", "[", "k:['a' ", "<!-- ", "!!a.b <!-- x\n", "-", "\\'",
    "\t", "\r", "!", "!!a.b k:'\n", "k:'''a\n  ", "!!a.b k:v\n\n//c\n\n  x:1\n", "'' ", "k:v #c\n  ", "k:['x','",
]  # fmt: skip


@pytest.mark.parametrize("start", ["", "!!a.b ", "!!a.b k:'"])
@pytest.mark.parametrize("piece", _SLOW)
def test_no_text_is_slow(start: str, piece: str) -> None:
    """A hundred thousand characters of anything are read well inside a second; a quadratic reader takes minutes."""
    text = start + piece * (100_000 // len(piece))
    began = time.process_time()
    try:
        parse(text)
    except ParseError:
        pass
    assert time.process_time() - began < 2


@pytest.mark.parametrize("piece", ["a{} ", "k{}:v ", "k{}:'x y' ", "// {}\n  k{}:v\n  ", "a{}, ", "\n!!a.b{}"])
def test_no_number_of_different_things_is_slow(piece: str) -> None:
    """Fifty thousand arguments, keys, items or names that are all different are read inside two seconds."""
    text = "!!a.b l:x " + "".join(piece.replace("{}", str(number)) for number in range(50_000))
    began = time.process_time()
    parse(text)
    assert time.process_time() - began < 2


def test_no_glob_is_slow() -> None:
    """Many stars over a long name that does not match end at once."""
    began = time.process_time()
    assert not glob("*a" * 30 + "b")("a" * 5000)
    assert time.process_time() - began < 1
