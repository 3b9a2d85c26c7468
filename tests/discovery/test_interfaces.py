"""The interfaces of this host, as endpoints that can be dialled."""

import pytest

from zmesh.discovery import interfaces
from zmesh.discovery.sighting import parse_endpoint
from zmesh.protocol.bounds import MAX_ENDPOINTS


def test_the_loopback_comes_first_and_all_can_be_dialled() -> None:
    endpoints = interfaces.endpoints(7000, ipv6=True)
    assert endpoints[0] == "tcp://127.0.0.1:7000"
    assert endpoints == tuple(str(parse_endpoint(endpoint)) for endpoint in endpoints)


def test_what_means_nothing_elsewhere_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    some = {
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
        ("e", "fd00::2"),
        ("e", "192.0.2.2"),
        ("e", "fe80::1%3"),
        ("f", "fe80::1"),
    }
    monkeypatch.setattr(interfaces, "addresses", lambda: frozenset(some))
    both = ("tcp://127.0.0.1:1", "tcp://192.0.2.2:1", "tcp://[fd00::2]:1")
    assert interfaces.endpoints(1, ipv6=True) == both
    assert interfaces.endpoints(1, ipv6=False) == both[:2]


def test_a_host_of_many_interfaces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "addresses", lambda: frozenset((f"e{n}", f"192.0.2.{n}") for n in range(1, 99)))
    assert len(interfaces.endpoints(1, ipv6=True)) == MAX_ENDPOINTS


def test_addresses_can_be_compared() -> None:
    assert interfaces.addresses() == interfaces.addresses()
    assert "127.0.0.1" in {address for _, address in interfaces.addresses()}


def test_what_is_far_is_all_but_the_loopback_unless_there_is_nothing_else() -> None:
    near, there, six = "tcp://127.0.0.1:1", "tcp://192.0.2.2:1", "tcp://[::1]:1"
    assert interfaces.far((near, there, six)) == (there,)
    assert interfaces.far((near, six)) == (near, six)
    assert interfaces.far(()) == ()
