"""The addresses of this host's network interfaces, as they are now.

They change while a peer runs (Wi-Fi, VPN, containers), so this module must never keep what it has read.
"""

from ipaddress import IPv4Address, ip_address

from zmesh.discovery.sighting import Endpoint, parse_endpoint
from zmesh.protocol.bounds import MAX_ENDPOINTS


def addresses() -> frozenset[tuple[str, str]]:
    """Return all (interface, address) pairs; two results differ when an interface came, went or was renumbered."""
    import ifaddr  # noqa: PLC0415 - ctypes; peers bound to one address and without mDNS never need it

    return frozenset(
        (adapter.name, ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    )


def endpoints(port: int, *, ipv6: bool) -> tuple[str, ...]:
    """List where a socket on all interfaces can be dialled: this host's loopback first, at most 16 in all.

    IPv4 comes before IPv6. IPv6 link-local addresses are left out: they mean nothing without the interface.

    Args:
        port: The TCP port it is bound to.
        ipv6: Whether it takes IPv6 connections.
    """
    found = [ip_address(text.partition("%")[0]) for _, text in sorted(addresses())]
    far = [
        ip
        for ip in sorted(found, key=lambda ip: ip.version)
        if not ip.is_loopback and (isinstance(ip, IPv4Address) or (ipv6 and not ip.is_link_local))
    ]
    texts = [str(Endpoint(ip, port)) for ip in (IPv4Address("127.0.0.1"), *far)]
    return tuple(dict.fromkeys(texts))[:MAX_ENDPOINTS]


def far(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endpoints that mean the same on other hosts: all but loopback, unless there is nothing else."""
    return tuple(text for text in texts if not parse_endpoint(text).ip.is_loopback) or texts
