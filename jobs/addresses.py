"""Which addresses lie in the public network, whatever they are wrapped in. Source: libraries.md 1.6."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What `is_global` lets through although nobody outside is there, or although it only wraps another address.
NEVER = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "100.64.0.0/10",
        "168.63.129.16/32",  # a cloud's machines ask it about themselves, by a public address
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
# All the global unicast there is (RFC 4291, 2.4): outside lie loopback, mapped, translated (NAT64, SIIT), local,
# multicast, and what nobody was given yet.
GLOBAL_6 = IPv6Network("2000::/3")
ISATAP = 0x5EFE  # RFC 5214: an IPv4 address behind these, in the lower half of an IPv6 one


def is_public(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether an address may be dialled: a public one, or one of the networks the operator allowed."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in NEVER):
        return False
    if isinstance(address, IPv6Address) and (address not in GLOBAL_6 or _is_isatap(address)):
        return False
    return address.is_global and not address.is_multicast


def _is_isatap(address: IPv6Address) -> bool:
    # The bit left out tells whether the wrapped address is a global one.
    return (int(address) >> 32) & 0xFDFFFFFF == ISATAP
