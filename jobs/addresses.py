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
        "224.0.0.0/4",
        "240.0.0.0/4",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "::/96",
    )
)


def is_public(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether an address may be dialled: a public one, or one of the networks the operator allowed."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed):
        return True
    if any(address in network for network in NEVER):
        return False
    return address.is_global and not address.is_multicast
