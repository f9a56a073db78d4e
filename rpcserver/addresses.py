"""Network addresses: whose a connection is, and whether only this machine can reach one."""

from ipaddress import IPv6Address, ip_address, ip_network


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


def forwarded_address(peer: str, forwarded_for: list[str], trusted: frozenset[str]) -> str:
    """Return who is behind the proxies: the last address of X-Forwarded-For that no trusted proxy is.

    A peer that is no trusted proxy is who it is, whatever it claims.
    """
    hops = [hop.strip() for line in forwarded_for for hop in line.split(",") if hop.strip()]
    address = peer
    while address in trusted and hops:
        address = hops.pop()
    return address
