"""Playbooks: adding, finding, ordering, finishing and writing."""

import os
from pathlib import Path

import pytest

from heroscript import ParseError, PlayBook
from heroscript.errors import FindError, IncludeError, SourceError

TEXT = """
!!pay.add who:ann
!!pay.drop who:bob
!!git.clone url:x
!!gittools.clone url:y
!!choose it
"""


@pytest.fixture
def book() -> PlayBook:
    return PlayBook(TEXT)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("*", [1, 2, 3, 4, 5]),
        ("pay.*", [1, 2]),
        ("pay.", [1, 2]),
        (".clone", [3, 4]),
        ("pay:add", [1]),
        ("PAY.Add", [1]),
        ("choose", [5]),
        ("core.choose", [5]),
        ("git*.clone", [3, 4]),
        ("git.clone , pay.drop", [2, 3]),
        ("pay.?dd", [1]),
        ("[gp]*.[^d]*", [1, 3, 4]),
        ("[a-h]it.*", [3]),
        ("git.*,", [3]),
        (",", []),
        ("pay.x.add", []),
        ("pay;add", []),
    ],
)
def test_finds(book: PlayBook, wanted: str, ids: list[int]) -> None:
    """A filter is a comma list of actor.name with globs; the result is in order of ids."""
    assert [action.id for action in book.find(wanted)] == ids


def test_hides_what_is_done(book: PlayBook) -> None:
    """Done actions are found only when asked for."""
    book.get("pay.add").done = True
    assert [action.id for action in book.find("pay.*")] == [2]
    assert len(book.find("pay.*", include_done=True)) == 2
    with pytest.raises(FindError, match=r"4 actions are not done: pay.drop \(<text>:3\)"):
        book.empty_check()
    for action in book:
        action.done = True
    book.empty_check()


def test_counts_matches(book: PlayBook) -> None:
    """Once, at most once, exactly once."""
    assert book.exists("pay.*") and not book.exists("nobody.*")
    assert book.exists_once("pay.add") and not book.exists_once("pay.*")
    assert book.max_once("pay.add") and not book.max_once("nobody.*")
    book.ensure_once("git.clone")
    for check in (book.get, book.ensure_once, book.max_once):
        with pytest.raises(FindError):
            check("pay.*")
    with pytest.raises(FindError):
        book.get("nobody.*")


def test_merges_parameters_and_lists_names(book: PlayBook) -> None:
    """Later actions win."""
    assert book.params_get("pay.*").get_map() == {"who": "bob"}
    assert book.names() == ["pay.add", "pay.drop", "git.clone", "gittools.clone", "core.choose"]


def test_sorts_by_the_lowest_number_that_matches(book: PlayBook) -> None:
    """Unmatched actions come at 50; any number is allowed."""
    order = book.filtersort({60: "pay.*", -1: "git*.*", 5: "git.clone", 50: ""})
    assert [(action.id, action.priority) for action in order] == [(3, -1), (4, -1), (5, 50), (1, 60), (2, 60)]
    assert [action.id for action in book.filtersort(prio_only=True)] == [3, 4, 1, 2]
    assert [action.id for action in book.filtersort({1: "choose"})] == [5, 1, 2, 3, 4]


def test_sorts_what_is_added_later(book: PlayBook) -> None:
    """The registered priorities hold for actions added afterwards."""
    book.priorities_add({1: "git.*", 2: "choose"})
    book.priorities_add({0: "git.*,late.*"})
    assert book.priorities == {1: ["git.*"], 2: ["choose"], 0: ["late.*"]}
    book.add("!!late.one", prio=7)
    assert [action.id for action in book.actions_sorted()] == [6, 3, 5, 1, 2, 4]


def test_numbers_on_from_the_last_one() -> None:
    """Also when some before it were taken out: no id is given to two actions."""
    book = PlayBook("!!a.one\n!!a.two\n!!a.three")
    del book.actions[0]
    book.add("!!a.four\n!!a.five")
    assert [action.id for action in book] == [2, 3, 4, 5]


def test_adds_all_or_nothing(book: PlayBook, tmp_path: Path) -> None:
    """A mistake in any file adds nothing, and the mistakes of all files are reported."""
    (tmp_path / "a.md").write_text("!!good.one\n")
    (tmp_path / "b.md").write_text("\n!!bad.x.y\n")
    (tmp_path / "c.hero").write_text("!!bad k@:1\n")
    with pytest.raises(ParseError) as raised:
        book.add(path=tmp_path)
    assert [(Path(found.file).name, found.line) for found in raised.value.mistakes] == [("b.md", 2), ("c.hero", 1)]
    assert len(book) == 5


def test_reads_folders_in_order(tmp_path: Path) -> None:
    """First .md, then .hero, then .heroscript, by name; hidden names, other names and links are left out."""
    for name in ("b.md", "a/z.md", "c/a.hero", "a.heroscript", "z.md", "_x.md", ".y.md", "_d/a.md", "n.txt", "N.MD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"!!at.{name.translate(str.maketrans('/._', 'xxx'))}\n// left open\n")
    (tmp_path / "link.md").symlink_to(tmp_path / "b.md")
    os.mkfifo(tmp_path / "pipe.md")
    book = PlayBook()
    book.add(path=tmp_path)
    assert [action.name for action in book] == ["axzxmd", "bxmd", "zxmd", "cxaxhero", "axheroscript"]
    assert [action.id for action in book] == [1, 2, 3, 4, 5]
    assert not any(action.comments for action in book)


def test_refuses_what_it_may_not_or_cannot_read(tmp_path: Path) -> None:
    """A missing path, one outside the roots, text that is not UTF-8, and a url nobody fetches."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out.md").write_text("!!a.b\n")
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "out.md")
    (tmp_path / "in" / "binary.txt").write_bytes(b"!!a.b\xff")
    book = PlayBook(roots=[tmp_path / "in"])
    for path in ("in/missing", "out.md", "in/../out.md", "in/link.txt", "in/binary.txt", "in/nul\0"):
        with pytest.raises(SourceError):
            book.add(path=tmp_path / path)
    with pytest.raises(SourceError, match="no way to fetch"):
        book.add(url="https://host.example/a/b")


def test_fetches_a_url(tmp_path: Path) -> None:
    """A url is brought here by the callable given, with the flags, and read like a path."""
    (tmp_path / "a.md").write_text("!!a.b\n")
    calls = []

    def fetch(url: str, pull: bool, reset: bool) -> Path:
        calls.append((url, pull, reset))
        return tmp_path

    book = PlayBook(fetch=fetch)
    assert [action.title for action in book.add(url="u", git_pull=True)] == ["a.b"]
    assert calls == [("u", True, False)]


@pytest.mark.parametrize(
    ("text", "words", "value"),
    [
        ("!!a.b k:'@NAME {NAME} ${NAME} NAME'", {"NAME": "joe"}, "joe joe joe NAME"),
        ("!!a.b k:@NAMES", {"NAME": "joe"}, "joeS"),
        ("!!a.b k:[x]y", {"[x]": "z"}, "zy"),
        ("!!a.b @MORE", {"MORE": "k:v"}, "v"),
        ("!!a.b k:{A}{B}", {"A": "{B}", "B": "x"}, "xx"),
        ("!!a.b k:{A}{B}", {"B": "x", "A": "{B}"}, "{B}x"),
        ("!!a.b k:@NAMES", {"NAMES": "x", "NAME": "joe"}, "x"),
        ("!!a.b k:@NAMES", {"NAME": "joe", "NAMES": "x"}, "joeS"),
        ("!!a.b k:@", {"": "joe"}, "@"),
    ],
)
def test_replaces_before_reading(text: str, words: dict[str, str], value: str) -> None:
    """Words are put in before the text is read, so they can add parameters."""
    book = PlayBook()
    book.add(text, replace=words)
    assert book.actions[0].params.get("k") == value


def test_replaces_in_actions_that_are_not_done() -> None:
    """The environment reaches what is still to be executed."""
    book = PlayBook("!!a.b k:{X}\n!!a.c k:{X}")
    book.actions[0].done = True
    book.replace({"X": "1"})
    assert [action.params.get("k") for action in book] == ["{X}", "1"]


ROUND_TRIPS = [
    "!!!a.b One /tmp/x 'two words' k:v long:'" + "x " * 80 + "'",
    "// one\n//\n// two\n!!a.b // c\n  k:1\n",
    "!!a.b\n  // c\n  arg // d\n  // e\n  // f\n  k:'x<BR>y' // g\n",
    "!!a.b k:'C:\\dir\\ ' j:'it\\'s' i:\"\\\"\"",
    "!!a.b k:'\n  x\n    y\n\n  z\n  '",
    "!!a.b k:'a<BR>\\'<BR>b' j:'a<BR>\tb' i:'a<BR> <BR>b'",
    "!!a.b k:'x\\\\\\\\ny'",
    "!!a.b ,x ,k:v ,j:w",
    "!!a.b k:'//x' j:#y i:'!!c.d' h:'[a'",
]


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_writes_what_can_be_read_again(text: str) -> None:
    """Reading what was written gives equal actions, types, arguments and comments included."""
    book = PlayBook(text)
    written = PlayBook(book.heroscript())
    assert written.actions == book.actions
    assert written.hashkey() == book.hashkey()


def test_writes_readable_text() -> None:
    """Short actions stand on one line; multi-line values are blocks; done actions are left out."""
    book = PlayBook("!!a.b x k:v j:'two words'\n!!c.d\n!!e.f\n  k:'\n    one\n      two\n    '")
    book.actions[1].done = True
    assert book.heroscript() == (
        "!!a.b id:1 x k:v j:'two words'\n\n!!e.f id:3\n    k:'\n        one\n          two\n        '\n"
    )
    assert "!!c.d" in book.heroscript(show_done=True)


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files of heroscript into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_follows_includes_where_they_stand(tmp_path: Path) -> None:
    """Relative to the file that includes, nested, with words replaced; ids are counted anew."""
    write(
        tmp_path,
        {
            "main.hero": "!!one.x\n!!play.include path:sub/a.hero replace:'WHO:ann,AT:http://h'\n!!four.x\n",
            "sub/a.hero": "!!two.x who:{WHO} at:'{AT}'\n!!core.include path:more\n",
            "sub/more/b.md": "!!three.x\n",
        },
    )
    book = PlayBook(roots=[tmp_path])
    book.add(path=tmp_path / "main.hero")
    book.resolve_includes()
    assert [action.title for action in book.find("")] == ["one.x", "two.x", "three.x", "four.x"]
    assert [action.id for action in book] == [1, 2, 3, 4, 5, 6]
    assert book.get("two.x").params.get_map() == {"who": "ann", "at": "http://h"}
    assert all(action.done for action in book.find("play.include,core.include", include_done=True))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"main.hero": "!!play.include path:main.hero"}, "includes itself"),
        ({"main.hero": "!!play.include path:a.hero", "a.hero": "!!play.include path:./main.hero"}, "includes itself"),
        ({"main.hero": "!!play.include path:missing"}, "no such file"),
        ({"main.hero": "!!play.include path:../outside"}, "outside the folders"),
        ({"main.hero": "!!play.include"}, "is missing"),
        ({"main.hero": "!!play.include git_url:x"}, "no way to fetch"),
        (
            {"main.hero": "!!play.include path:0.hero"}
            | {f"{n}.hero": f"!!play.include path:{n + 1}.hero\n" * 2 for n in range(30)},
            "deep",
        ),
        (
            {"main.hero": "!!play.include path:0.hero"}
            | {f"{n}.hero": f"!!play.include path:{n + 1}.hero\n" * 2 for n in range(12)}
            | {"12.hero": ""},
            "more than 1000 files",
        ),
    ],
)
def test_refuses_an_include_and_shows_the_way_to_it(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    """An include that cannot be followed changes nothing."""
    write(tmp_path, files)
    book = PlayBook(roots=[tmp_path])
    book.add(path=tmp_path / "main.hero")
    with pytest.raises(IncludeError, match=problem) as raised:
        book.resolve_includes()
    assert "main.hero:1" in str(raised.value)
    assert [action.done for action in book] == [False]


WRONG = {
    "a.md": "!!one.x k@:1\n!!play.include path:sub/b.hero\n",
    "c.md": "!!play.include path:missing.hero\n!!play.include path:../outside.hero\n!!play.include path:sub/b.hero\n",
    "sub/b.hero": "!!two.x\n\n!!three.x.y.z\n!!play.include path:d.hero\n",
    "sub/d.hero": "!!four.x k:'open\n",
}


def test_tells_every_mistake_of_every_file_that_is_included(tmp_path: Path) -> None:
    """Also behind a file that has mistakes of its own, and with the includes that lead nowhere; nothing is added."""
    write(tmp_path, {f"books/{name}": text for name, text in WRONG.items()})
    (tmp_path / "books" / "latin.md").write_bytes(b"!!a.b k:\xe9\n")
    book = PlayBook("!!is.there", roots=[tmp_path / "books"])
    with pytest.raises(ParseError) as raised:
        book.add(path=tmp_path / "books", follow=lambda _: True)
    told = [(Path(item.file).name, item.line, item.text) for item in raised.value.mistakes]
    assert [item for item in told if item[2] != "play.include"] == [
        ("a.md", 1, "k@"),
        ("b.hero", 3, "three.x.y.z"),
        ("d.hero", 1, "'"),
        ("latin.md", 1, "latin.md"),
    ]
    assert [item for item in told if item[2] == "play.include"] == [
        ("c.md", 1, "play.include"),
        ("c.md", 2, "play.include"),
    ]
    assert book.names() == ["is.there"] and book.othertext == ""


def test_tells_every_include_that_leads_nowhere(tmp_path: Path) -> None:
    """Without other mistakes the error is that of the includes, all of them; nothing is added or marked."""
    write(tmp_path, {"main.hero": "!!play.include path:x\n!!play.include path:good.hero\n!!play.include path:y\n"})
    write(tmp_path, {"good.hero": "!!a.b\n"})
    book = PlayBook()
    with pytest.raises(IncludeError) as raised:
        book.add(path=tmp_path / "main.hero", follow=lambda _: True)
    assert [line.rpartition("main.hero:")[2] for line in str(raised.value).splitlines()] == ["1", "3"]
    assert len(book) == 0


def test_follows_only_the_includes_it_is_asked_to(tmp_path: Path) -> None:
    """The others stay, not done, for somebody else to follow."""
    write(tmp_path, {"a.hero": "!!a.b\n"})
    book = PlayBook("!!is.there")
    added = book.add(
        "!!play.include url:u\n!!play.include path:a.hero",
        follow=lambda action: not action.params.exists("url"),
        folder=tmp_path,
    )
    assert [(action.id, action.title, action.done) for action in added] == [
        (2, "play.include", False),
        (3, "play.include", True),
        (4, "a.b", False),
    ]


def test_what_is_fetched_lies_in_the_roots_whatever_leads_there(tmp_path: Path) -> None:
    """A link on the way to a root is the root; one inside it, or a place outside, is refused."""
    write(tmp_path, {"real/a.hero": "!!a.b\n", "out/x.hero": "!!x.y\n"})
    (tmp_path / "root").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "link.hero").symlink_to(tmp_path / "out" / "x.hero")
    for name, is_inside in (("root/a.hero", True), ("out/x.hero", False), ("out", False), ("root/link.hero", False)):
        for text in ("", "!!play.include url:u"):
            book = PlayBook(roots=[tmp_path / "root"], fetch=lambda *_, name=name: tmp_path / name)
            given = {"url": "u"} if not text else {"text": text}
            if is_inside:
                book.add(**given, follow=lambda _: True)
                assert book.exists_once("a.b")
            else:
                with pytest.raises(SourceError, match="outside"):
                    book.add(**given, follow=lambda _: True)


def test_includes_what_a_url_names(tmp_path: Path) -> None:
    """In a text without a file a relative path starts from the folder given."""
    write(tmp_path, {"a.md": "!!a.b\n", "c.md": "!!c.d\n"})
    book = PlayBook(
        "!!play.include git_url:u git_reset:1\n!!play.include path:c.md", fetch=lambda *_: tmp_path / "a.md"
    )
    book.resolve_includes(tmp_path)
    assert [action.title for action in book.find("")] == ["a.b", "c.d"]
