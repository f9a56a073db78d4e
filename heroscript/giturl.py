"""Taking the address of a git repository apart; fetches nothing. Source: heroscript.md 6.2."""

import re
from dataclasses import dataclass

from heroscript.errors import MalformedUrl

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"(?:([^/@]*)@)?([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)(?::(\d{1,5}))?")
_SCP = re.compile(r"\A((?:[A-Za-z0-9_.-]+@)?[A-Za-z0-9.-]+):(?!\d+[:/]|/)")  # which ssh:// is often put in front of
_SCHEMES = frozenset({"https", "http", "ssh", "git"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What stands between the repository and the branch, and what follows the branch is a path.
_BRANCH_MARKS = (
    ("src", "branch"),
    ("src", "tag"),
    ("src", "commit"),
    ("refs", "heads"),
    ("refs", "tags"),
    ("-", "tree"),
    ("-", "blob"),
    ("tree",),
    ("blob",),
)


@dataclass(frozen=True, slots=True)
class GitUrl:
    """Where something in a git repository lies. No part can leave a folder or be taken for an option.

    `branch` may be a tag or a commit; `branch` and `path` are empty when the address does not say them. Credentials in
    the address are dropped.
    """

    host: str
    port: int | None
    account: str
    name: str
    branch: str
    path: str
    anchor: str

    @property
    def provider(self) -> str:
        """The folder all repositories of the host lie in: `github` for github.com, else the host."""
        return "github" if self.host == "github.com" else self.host

    @classmethod
    def parse(cls, url: str) -> "GitUrl":
        """Read an https, http, ssh or git address, `git@host:account/name`, `ssh://git@host:account/name`, or
        `host/account/name`.

        Raises:
            MalformedUrl: it is none of these, or a part of it is `..`, begins with `-` or holds a control character.
        """
        address, _, anchor = url.strip().partition("#")
        scheme = _SCHEME.match(address)
        if _CONTROL.search(url) or (scheme and scheme[1].lower() not in _SCHEMES):
            raise MalformedUrl("a git address begins with https, http, ssh, git or git@host:")
        address = address[scheme.end() :] if scheme else address
        if scheme is None or scheme[1].lower() == "ssh":
            address = _SCP.sub(r"\1/", address, count=1)
        where, _, rest = address.partition("/")
        host = _HOST.fullmatch(where)
        parts = [part for part in rest.split("/") if part]
        # Without a scheme or a user, a name without a dot is as likely a folder.
        is_host = host and (scheme or host[1] or "." in host[2] or host[2] == "localhost")
        if host is None or not is_host or len(parts) < 2:
            raise MalformedUrl("a git address is host/account/name")
        if host[3] and not 0 < int(host[3]) < 65536:
            raise MalformedUrl(f"a port is 1 to 65535, not {host[3]}")
        if any(part == ".." or (part[0] == "-" and part != "-") for part in parts):
            raise MalformedUrl("a part of a git address is neither '..' nor begins with '-'")
        account, name = parts[0], parts[1].removesuffix(".git")
        if not name.strip("."):
            raise MalformedUrl("a git address names a repository")
        branch, path = _branch(parts[2:])
        return cls(host[2].lower(), int(host[3]) if host[3] else None, account, name, branch, path, anchor)


def _branch(parts: list[str]) -> tuple[str, str]:
    """Split what stands behind the repository; pages that are not in its tree (issues, wiki) give neither."""
    for mark in _BRANCH_MARKS:
        if tuple(parts[: len(mark)]) == mark and len(parts) > len(mark):
            return parts[len(mark)], "/".join(parts[len(mark) + 1 :])
    return "", ""
