"""What a text of heroscript means: actions, parameters, comments and mistakes."""

import pytest

from heroscript import Params, ParseError, parse


def first(text: str) -> dict[str, str]:
    """The parameters of the first action of a text."""
    return parse(text).actions[0].params.get_map()


PARAMS = [
    ("plain", "!!fruit.buy kind:apple count:3", {"kind": "apple", "count": "3"}),
    ("blanks-after-colon", "!!fruit.buy kind:   apple", {"kind": "apple"}),
    ("tab-between", "!!fruit.buy\tkind:apple\tcount:3", {"kind": "apple", "count": "3"}),
    ("body", "!!fruit.buy\n  kind:apple\n  count:3\n", {"kind": "apple", "count": "3"}),
    ("one-blank-is-a-body", "!!fruit.buy\n kind:apple\n", {"kind": "apple"}),
    ("blank-lines-end-nothing", "!!fruit.buy\n\n\n  kind:apple\n\n  count:3\n", {"kind": "apple", "count": "3"}),
    (
        "carriage-returns",
        "!!fruit.buy kind:apple\r  count:3\r\n  sort:red",
        {"kind": "apple", "count": "3", "sort": "red"},
    ),
    ("shared-indentation", "      !!fruit.buy\n        kind:apple\n", {"kind": "apple"}),
    ("prose-ends-the-body", "!!fruit.buy kind:apple\nand then\n  count:3\n", {"kind": "apple"}),
    ("picture-ends-the-body", "!!fruit.buy kind:apple\n  ![x](y)\n  count:3\n", {"kind": "apple"}),
    ("byte-order-mark", "\ufeff!!fruit.buy kind:apple", {"kind": "apple"}),
    ("key-in-lower-case", "!!fruit.buy KIND:Apple", {"kind": "Apple"}),
    ("key-with-dot-and-slash", "!!fruit.buy a.b:1 c/d:2", {"a.b": "1", "c/d": "2"}),
    ("last-of-a-key-wins-and-moves", "!!fruit.buy a:1 b:2 A:3", {"b": "2", "a": "3"}),
    ("id-is-reserved", "!!fruit.buy id:9 kind:apple", {"kind": "apple"}),
    (
        "url-unquoted",
        "!!fruit.buy at:https://shop.example/a?b=c#d kind:apple",
        {"at": "https://shop.example/a?b=c#d", "kind": "apple"},
    ),
    ("specials-in-a-value", "!!fruit.buy v:a@b#c$d{e}%+=!", {"v": "a@b#c$d{e}%+=!"}),
    ("quote-inside-a-word", "!!fruit.buy v:it's w:1", {"v": "it's", "w": "1"}),
    ("colon-takes-next-word", "!!fruit.buy a: b:c", {"a": "b:c"}),
    ("empty-before-a-key", "!!fruit.buy\n  a:\n  b:c\n", {"a": "", "b": "c"}),
    ("empty-at-the-end", "!!fruit.buy b:c a:", {"b": "c", "a": ""}),
    ("value-on-the-next-line", "!!fruit.buy\n  a:\n    one two\n  b:c\n", {"a": "one two", "b": "c"}),
    ("quoted-on-the-next-line", "!!fruit.buy\n  a:\n  'one two'\n  b:c\n", {"a": "one two", "b": "c"}),
    ("lines-below", "!!fruit.buy\n  a:\n    one\n      two // c\n  b:c\n", {"a": "one\n  two", "b": "c"}),
    ("empty-quotes", "!!fruit.buy a:'' b:\"\" c:'  '", {"a": "", "b": "", "c": ""}),
    ("quotes-hold-the-other", '!!fruit.buy a:\'say "hi"\' b:"it\'s"', {"a": 'say "hi"', "b": "it's"}),
    ("escaped-quotes", '!!fruit.buy a:\'it\\\'s\' b:"a \\"b\\""', {"a": "it's", "b": 'a "b"'}),
    ("single-backslash-stays", "!!fruit.buy a:'C:\\new' b:C:\\new", {"a": "C:\\new", "b": "C:\\new"}),
    ("escaped-line-breaks", "!!fruit.buy a:'x\\\\ny' b:x<BR>y c:'x<<BR>>y'", {"a": "x\ny", "b": "x\ny", "c": "x\ny"}),
    ("no-blank-behind-a-quote", "!!fruit.buy a:'x'b:'y'", {"a": "x", "b": "y"}),
    ("quote-over-lines-is-folded", "!!fruit.buy a:'one\n    two\n\n    three' b:c", {"a": "one two three", "b": "c"}),
    ("inline-triple", "!!fruit.buy a:'''it's one''' b:c", {"a": "it's one", "b": "c"}),
    (
        "block",
        "!!fruit.buy\n  a:'\n    one\n      two\n\n    three\n    '\n  b:c\n",
        {"a": "one\n  two\n\nthree", "b": "c"},
    ),
    ("block-closed-by-another-quote", '!!fruit.buy\n  a:"""\n    one\n  \'\n  b:c\n', {"a": "one", "b": "c"}),
    ("block-at-column-0", "!!fruit.buy\n  a:'\none\n  two\n'\n  b:c\n", {"a": "one\n  two", "b": "c"}),
    ("block-behind-many-blanks", "!!fruit.buy k:v a:      '\n   one\n  '\n", {"k": "v", "a": "one"}),
    (
        "block-is-verbatim",
        "!!fruit.buy\n  a:'\n   // x\n   # y\n   k:v\n   ```\n   it's\n   !!b.c\n  '\n",
        {"a": "// x\n# y\nk:v\n```\nit's\n!!b.c"},
    ),
    ("list", "!!fruit.buy a:x,y,z b:'p', q , \"r\"", {"a": "x,y,z", "b": "p,q,r"}),
    ("list-items-with-blanks", "!!fruit.buy a:'x y', z, 'p q' b:'two words'", {"a": '"x y",z,"p q"', "b": "two words"}),
    ("list-over-lines", "!!fruit.buy\n  a:'x',\n    'y', // c\n    z\n  b:c\n", {"a": "x,y,z", "b": "c"}),
    ("list-ends-in-a-comma", "!!fruit.buy a:x,y, b:c", {"a": "x,y", "b": "c"}),
    ("list-ends-in-a-comma-at-the-end", "!!fruit.buy a:x,\n", {"a": "x"}),
    ("list-begins-with-a-comma", "!!fruit.buy a:,x b:c", {"a": ",x", "b": "c"}),
    ("brackets", "!!fruit.buy a:[1, 2] b:['x', 'y z'] c:[p]", {"a": "[1,2]", "b": "['x','y z']", "c": "[p]"}),
    ("hash-in-a-value", "!!fruit.buy a:#tag b: #tag # comment", {"a": "#tag", "b": "#tag"}),
    ("comment-is-no-value", "!!fruit.buy\n  a: // nothing\n  b:c\n", {"a": "", "b": "c"}),
    ("no-break-space-is-no-blank", "!!fruit.buy a:1\u00a0b:2", {"a": "1\u00a0b:2"}),
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, params, id=name) for name, text, params in PARAMS])
def test_reads_parameters(text: str, expected: dict[str, str]) -> None:
    """The keys and values of an action, in order."""
    read = first(text)
    assert read == expected
    assert list(read) == list(expected)


ACTIONS = [
    ("none", "only prose\n- !!a.b is no action\n", []),
    ("types", "!a.b\n!!a.b\n!!!a.b\n!!!!a.b\n", ["dal a.b", "sal a.b", "macro a.b", "wal a.b"]),
    ("one-name", "!!select x", ["sal core.select"]),
    ("colon-separates-nothing", "!!git:clone", ["sal core.git_clone"]),
    ("names-are-fixed", "!!My-Shop.Bu$y__it", ["sal my_shop.buy_it"]),
    ("cut-at-hash", "!!shop.buy#2 a:1", ["sal shop.buy"]),
    ("indented-starts-another", "!!a.b x:1\n    !!c.d y:2\n", ["sal a.b", "sal c.d"]),
    ("fences", "text\n```\n!!a.b x:1\n```\nmore\n!!c.d\n", ["sal a.b", "sal c.d"]),
    (
        "indented-fences",
        "- text\n\n  !!a.b x:1\n    ```sh\n    echo 'it's {}'\n    ```\n\n- !!no\n!!c.d\n",
        ["sal a.b", "sal c.d"],
    ),
    (
        "inside-an-indented-fence",
        "1. do:\n   ```\n   !!a.b x:1\n     y:2\n   ```\n2. (so)\n!!c.d\n",
        ["sal a.b", "sal c.d"],
    ),
    ("other-fences", "!!a.b\n\t~~~\n\t$ x\n\t~~~\n!!c.d\n  ---\n  (prose)\n!!e.f", ["sal a.b", "sal c.d", "sal e.f"]),
    ("picture", "![a](b)\n!!a.b\n", ["sal a.b"]),
    ("only-one-mark-makes-a-picture", "!![a] k:v\n!!a.b\n", ["sal core.a", "sal a.b"]),
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, found, id=name) for name, text, found in ACTIONS])
def test_finds_actions(text: str, expected: list[str]) -> None:
    """An action is a line that begins with one to four exclamation marks."""
    assert [f"{action.type} {action.title}" for action in parse(text).actions] == expected


def test_a_fence_ends_an_action_and_no_value() -> None:
    """What stands before it counts, what stands behind it is prose; in a block it is a line like others."""
    (action,) = parse("!!a.b x:1\n  y:2 arg // said\n  ```\n  z:3\n").actions
    assert (action.params.get_map(), action.params.args) == ({"x": "1", "y": "2"}, ("arg",))
    (action,) = parse("!!a.b x:'\n  ```\n  z:3\n  ```\n  '\n").actions
    assert action.params.get_map() == {"x": "```\nz:3\n```"}
    with pytest.raises(ParseError):
        Params.parse("x:1\n```")


def test_counts_ids_and_lines() -> None:
    """Ids count from the first one given; lines from 1."""
    actions = parse("x\n!!a.b\n\n!!c.d k:'\n  y\n'\n!!e.f", first_id=7).actions
    assert [(action.id, action.line) for action in actions] == [(7, 2), (8, 4), (9, 7)]


def test_keeps_the_given_id_aside() -> None:
    """The parameter `id` is reserved, its value is not lost."""
    action = parse("!!a.b id:15").actions[0]
    assert (action.given_id, action.params.exists("id")) == ("15", False)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("!!a.b one Two one", ("one", "Two")),
        ("!!a.b /tmp/x k:v last", ("/tmp/x", "last")),
        ("!!a.b 'two words' \"x\"", ("two words", "x")),
        ("!!a.b x,y", ("x,y",)),
    ],
)
def test_reads_arguments(text: str, args: tuple[str, ...]) -> None:
    """A word without a colon is an argument; the same one twice counts once."""
    assert parse(text).actions[0].params.args == args


COMMENTS = [
    ("end-of-line", "!!a.b\n  k:1 // one // two\n  j:2\n", {"k": "one // two"}),
    ("first-of-the-line", "!!a.b\n  k:1 j:2 // c\n", {"k": "c"}),
    ("line-before", "!!a.b\n  // c\n  //\n  // d\n  k:1\n", {"k": "c\n\nd"}),
    ("header-without-items", "!!a.b // c\n  k:1\n", {"k": "c"}),
    ("header-with-items", "!!a.b k:1 // c\n  j:1\n", {"k": "c"}),
    ("at-column-0", "!!a.b\n// c\n\n//d\n  k:1\n", {"k": "c\nd"}),
    ("with-a-quote", "!!a.b\n  k:1 // don't\n  j:'2'\n", {"k": "don't"}),
    ("hash", "!!a.b\n  # c\n  k:1\n  j:2 # d\n", {"k": "c", "j": "d"}),
    ("html", "!!a.b\n  <!-- c -->\n  k:1\n", {"k": "c"}),
    ("html-over-lines", "!!a.b\n  <!-- c\n  d -->\n  k:1\n", {"k": "c\nd"}),
    ("behind-the-last", "!!a.b\n  k:1\n  // c\n", {}),
    ("mid-word", "!!a.b k:2//c\n", {}),
]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, found, id=name) for name, text, found in COMMENTS])
def test_attaches_comments_to_parameters(text: str, expected: dict[str, str]) -> None:
    """A comment belongs to the first item of its line, or to the item behind it."""
    params = parse(text).actions[0].params
    assert {key: comment for key, _, comment in params.items() if comment} == expected


def test_attaches_comments_to_arguments() -> None:
    """A comment on an argument is kept beside the arguments."""
    params = parse("!!a.b\n  // c\n  one two // d\n").actions[0].params
    assert (params.args, params.arg_comments) == (("one", "two"), ("c", "d"))


def test_attaches_comments_to_actions() -> None:
    """Lines of comment at column 0 belong to the action behind them, or else to the other text."""
    script = parse("// lost\nprose\n// one\n\n//two\n!!a.b\n// last\n")
    assert (script.actions[0].comments, script.othertext) == ("one\ntwo", "lost\nlast")


MISTAKES = [
    ("no-name", "!!\n", 1, 3, ""),
    ("no-actor", "x\n!!.b\n", 2, 3, ".b"),
    ("three-names", "!!a.b.c\n", 1, 3, "a.b.c"),
    ("five-marks", "!!!!!a.b\n", 1, 1, "!!!!!"),
    ("key-character", "!!a.b\n  k@y:'secret x'\n", 2, 4, "k@"),
    ("argument-character", "!!a.b one+two\n", 1, 10, "one+"),
    ("value-without-key", "!!a.b k :v\n", 1, 9, ":"),
    ("open-quote", "!!a.b k:'secret\n", 1, 9, "'"),
    ("open-block", "!!a.b\n  k:'\n    secret\n!!c.d\n", 2, 5, "'"),
    ("open-comment", "!!a.b\n  <!-- x\n!!c.d\n", 2, 3, "<!--"),
    ("behind-tabs", "!!a.b\n\t\tk@y:1\n", 2, 4, "k@"),
    ("shared-indentation", "    !!a.b\n      k@y:1\n", 2, 8, "k@"),
    ("behind-carriage-returns", "!!a.b\r\n  k:1\r  k@y:1\r\n", 3, 4, "k@"),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "piece"), [pytest.param(*given, id=name) for name, *given in MISTAKES]
)
def test_locates_a_mistake(text: str, line: int, column: int, piece: str) -> None:
    """A mistake names file, line, column and the piece that is wrong, never a value."""
    with pytest.raises(ParseError) as raised:
        parse(text, file="shop.hero")
    (mistake,) = raised.value.mistakes
    assert (mistake.file, mistake.line, mistake.column, mistake.text) == ("shop.hero", line, column, piece)
    assert str(mistake).startswith(f"shop.hero:{line}:{column}: ")
    assert "secret" not in str(raised.value)


def test_reports_all_mistakes_at_once() -> None:
    """One exception carries every mistake of the text, in order."""
    with pytest.raises(ParseError) as raised:
        parse("!!a.b x@:1 fine:2 y+\n!!a.b.c\n!!d.e k:'open\n!!f.g $\n!!a.b.c\n")
    assert [(found.line, found.column) for found in raised.value.mistakes] == [
        (1, 8),
        (1, 20),
        (2, 3),
        (3, 9),
        (4, 7),
        (5, 3),
    ]


def test_reads_parameters_alone() -> None:
    """Parameters without an action may begin at column 0; an action among them is a mistake."""
    params = Params.parse("a:1\nb:'\n  x\n'\n// c\nd:2 e")
    assert (params.get_map(), params.args, params.comment("d")) == ({"a": "1", "b": "x", "d": "2"}, ("e",), "c")
    with pytest.raises(ParseError) as raised:
        Params.parse("a:1\n!!b.c")
    assert (raised.value.mistakes[0].line, raised.value.mistakes[0].column) == (2, 1)
