"""Addresses of git repositories."""

import pytest

from heroscript.errors import MalformedUrl
from heroscript.giturl import GitUrl


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://github.com/acme/tool", ("github", "acme", "tool", "", "", "")),
        ("https://GitHub.com/acme/tool.git/", ("github", "acme", "tool", "", "", "")),
        ("git@github.com:acme/tool.git", ("github", "acme", "tool", "", "", "")),
        ("git@code:acme/tool", ("code", "acme", "tool", "", "", "")),
        ("ssh://git@code:acme/tool", ("code", "acme", "tool", "", "", "")),
        ("ssh://git@code.example.org:acme/tool.git", ("code.example.org", "acme", "tool", "", "", "")),
        ("ssh://code/acme/tool", ("code", "acme", "tool", "", "", "")),
        ("https://code/acme/tool", ("code", "acme", "tool", "", "", "")),
        ("ssh://git@code.example.org:2222/acme/tool.git", ("code.example.org", "acme", "tool", "", "", "")),
        ("github.com/acme/acme.github.io", ("github", "acme", "acme.github.io", "", "", "")),
        ("https://user:pass@github.com/acme/tool", ("github", "acme", "tool", "", "", "")),
        ("https://github.com/acme/tool/tree/v1/docs/a b#top", ("github", "acme", "tool", "v1", "docs/a b", "top")),
        ("https://github.com/acme/tool/blob/main/README.md", ("github", "acme", "tool", "main", "README.md", "")),
        ("https://code.example.org/acme/tool/src/branch/main/x", ("code.example.org", "acme", "tool", "main", "x", "")),
        ("https://code.example.org/acme/tool/-/tree/main/x", ("code.example.org", "acme", "tool", "main", "x", "")),
        ("https://github.com/acme/tool/refs/tags/v1", ("github", "acme", "tool", "v1", "", "")),
    ],
)
def test_takes_an_address_apart(url: str, parts: tuple[str, ...]) -> None:
    """Provider, account, name, branch, path, anchor."""
    found = GitUrl.parse(url)
    assert (found.provider, found.account, found.name, found.branch, found.path, found.anchor) == parts


@pytest.mark.parametrize(
    "url",
    ["", "/tmp/x", "https://github.com/acme", "ext::sh -c x", "ext://a.b/c/d", "file:///tmp/x", "https://github.com/../x",
     "https://github.com/-u/x", "https://github.com/a/b/tree/main/../../x", "https://-o.example/a\n/b", "https://h.io/a/.git",
     "acme/tool/x", "code:acme/tool", "C:/acme/tool", "https://code.example.org:acme/tool", "ssh://git@code:22:acme/tool",
     "ssh://git@code:/acme/tool", "ssh://git@code:acme", "https://h.io:0/a/b", "https://h.io:65536/a/b"],
)  # fmt: skip
def test_refuses_what_is_unsafe_or_no_address(url: str) -> None:
    """No scheme that runs commands, no part that leaves the folder or is an option."""
    with pytest.raises(MalformedUrl):
        GitUrl.parse(url)


def test_keeps_the_port() -> None:
    """The port is needed to fetch."""
    assert GitUrl.parse("ssh://git@code.example.org:2222/acme/tool").port == 2222
