"""name_fix and its variants."""

import pytest

from heroscript.grammar import name_fix, name_fix_no_ext, name_fix_no_underscore


@pytest.mark.parametrize(
    ("text", "fixed", "bare", "without_extension"),
    [
        (" My-Name ", "my_name", "myname", "my_name"),
        ("Read Me.MD", "read_me.md", "readme.md", "read_me"),
        ("a.b.c", "a_b.c", "ab.c", "a_b"),
        ("a__b", "a_b", "ab", "a_b"),
        ("x#y.z", "x", "x", "x"),
        ("$a/b,c", "abc", "abc", "abc"),
        ("日本", "", "", ""),
        (".hidden", "_hidden", "hidden", "_hidden"),
        ("name_.md", "name_.md", "name.md", "name"),
        ("name.", "name_", "name", "name"),
        ("x.y/z", "x_yz", "xyz", "x_yz"),
        ("a/.b", "a_b", "ab", "a_b"),
        ("a-_b", "a__b", "ab", "a__b"),
        ("a_-b", "a_b", "ab", "a_b"),
    ],
)
def test_fixes(text: str, fixed: str, bare: str, without_extension: str) -> None:
    """Lower case, `_` for blanks and marks, an extension is kept, whatever else goes."""
    assert (name_fix(text), name_fix_no_underscore(text), name_fix_no_ext(text)) == (fixed, bare, without_extension)
