"""Network addresses: whose a connection is, who can reach one, and the one form in which settings have them."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

NO_ORIGIN = "none"  # said in `origins` by who knows that no page shall connect
DEFAULT_PORTS = {"http": 80, "https": 443}
# Of ASCII: a name in other letters is written with its xn-- form.
_NAME = re.compile(r"(?=.{1,253}$)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
# As in a Host header (RFC 9110, 7.2): a name, or an address, of which an IPv6 one stands in brackets; then a port.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,254})(?::([0-9]{1,5}))?")


def is_loopback(host: str) -> bool:
    """Tell whether a host to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_key(address: str) -> str:
    """Return what an address is counted as: an IPv6 one as its /64, which is one customer's."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        if not parsed.is_loopback:
            return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


def forwarded_address(peer: str, forwarded_for: list[str], trusted: Sequence[Network]) -> str:
    """Return who is behind the proxies: the last address of X-Forwarded-For that no trusted proxy is.

    A peer that is no trusted proxy is who it is, whatever it claims.
    """
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",") if hop.strip()]
    address = peer
    while is_within(address, trusted) and hops:
        address = hops.pop()
    return address


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies in one of the networks; what is no address lies in none."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def split_host(text: str) -> tuple[str, int | None] | None:
    """Return name and port of what a Host header holds, the name in its one form; None when it is no such thing."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return None
    name, port = found[1].lower(), int(found[2]) if found[2] else None
    if port is not None and not 0 < port < 65536:
        return None
    if name.startswith("["):
        try:
            return f"[{IPv6Address(name[1:-1])}]", port
        except ValueError:
            return None
    name = name.removesuffix(".")  # the root of all names, which browsers let people type
    return (name, port) if _NAME.fullmatch(name) else None


# What stands in settings. Each returns the one form of a text, or raises ValueError with the form it should have.


def as_origin(text: str) -> str:
    """An origin, as browsers send it: scheme, host, and the port where it is not the scheme's own."""
    if text == NO_ORIGIN:
        return text
    scheme, mark, rest = text.strip().partition("://")
    scheme, rest = scheme.lower(), rest.removesuffix("/")
    found = split_host(rest) if mark and scheme in DEFAULT_PORTS else None
    if found is None:
        name = (rest if mark else text.strip()).rpartition("@")[2].partition("/")[0]
        likely = split_host(name)
        form = (
            f"{'http' if scheme == 'http' else 'https'}://{_joined(*likely)}" if likely else "https://app.example.org"
        )
        raise ValueError(
            f"{text[:80]!r} is no origin: write {form}, scheme, host and port of a page, for each that may connect, or"
            f" {NO_ORIGIN!r} when no page shall"
        )
    name, port = found
    return f"{scheme}://{_joined(name, None if port == DEFAULT_PORTS[scheme] else port)}"


def as_own_host(text: str) -> str:
    """A name or an address to listen on, one of IPv6 with its interface perhaps; empty: every address there is."""
    if text and not _NAME.fullmatch(text):
        try:
            ip_address(text)
        except ValueError:
            told = f"{text[:80]!r} is neither a host's name nor an address, such as 127.0.0.1 or ::1"
            raise ValueError(told) from None
    return text


def as_host(text: str) -> str:
    """A name as a Host header carries it; a port only where it is not that of http or https."""
    found = split_host(bracketed(text.strip()))
    if found is None:
        raise ValueError(f"{text[:80]!r} is no host: write {_likely(text)}, the name clients use, without a scheme")
    name, port = found
    return _joined(name, None if port in DEFAULT_PORTS.values() else port)


def as_fetch_host(text: str) -> str:
    """A host that is called over https: a name, `*.` before it for all below, a port where it is not 443."""
    plain = text.strip()
    if plain.lower().startswith("https://"):
        plain = plain[len("https://") :].removesuffix("/")
    if plain == "*":
        return plain
    star = "*." if plain.startswith("*.") else ""
    found = split_host(bracketed(plain.removeprefix(star)))
    if found is None or (star and found[0].startswith("[")):
        raise ValueError(f"{text[:80]!r} is no host: write {_likely(text)}, *.example.org or example.org:8443")
    name, port = found
    return star + _joined(name, None if port == DEFAULT_PORTS["https"] else port)


def as_secret_host(text: str) -> str:
    """A host that a secret is sent to, whatever the port."""
    found = split_host(bracketed(text.strip()))
    if found is None or found[1] is not None:
        raise ValueError(f"{text[:80]!r} is no host: write {_likely(text).partition(':')[0]}, a name alone")
    return found[0].strip("[]")


def as_remote_host(text: str) -> str:
    """An address below which remotes may go: scheme, host, port, and a path where not all of it is meant."""
    plain = text.strip()
    scheme, mark, rest = plain.partition("://")
    scheme = scheme.lower() if mark else "https"
    authority, slash, path = (rest if mark else plain).partition("/")
    found = split_host(authority) if scheme in DEFAULT_PORTS else None
    if found is None or re.search(r"[?#\s\\*%]|(^|/)\.{1,2}(/|$)", path):
        raise ValueError(
            f"{text[:80]!r} is no address of remotes: write https://{_likely(text)}, with a path such as /v1 where only"
            " what lies below it may be called"
        )
    name, port = found
    origin = f"{scheme}://{_joined(name, None if port == DEFAULT_PORTS[scheme] else port)}"
    return (origin + slash + path).rstrip("/")


def as_network(text: str) -> str:
    """An address, or a network of them."""
    try:
        found = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:80]!r} is no address and no network: write 192.0.2.7, 10.1.0.0/16 or 2001:db8::/32"
        ) from None
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def _joined(name: str, port: int | None) -> str:
    return name if port is None else f"{name}:{port}"


def bracketed(text: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text


def _likely(text: str) -> str:
    """Return what somebody meant who wrote too much, else an example."""
    try:
        found = split_host(urlsplit(text if "://" in text else f"//{text}").netloc.rpartition("@")[2])
    except ValueError:
        found = None
    return "app.example.org" if found is None else _joined(*found)
