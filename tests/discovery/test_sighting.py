"""Sightings: whatever a stranger can write is either a well-formed sighting or a ValueError."""

import secrets
from typing import Any

import pytest

from tests.stores import store_of
from zmesh.discovery.sighting import Sighting, parse_endpoint, store_id, store_text
from zmesh.protocol.bounds import MAX_ENDPOINTS

DEVICE = "a" * 32
STORE = store_of(DEVICE, 1)
GOOD: dict[str, Any] = {
    "store": STORE,
    "name": "studio",
    "device": DEVICE,
    "endpoints": ("tcp://192.0.2.1:7000",),
    "source": "test",
}


def test_a_good_sighting_keeps_what_it_was_given() -> None:
    sighting = Sighting(**GOOD)
    assert (sighting.store, sighting.name, sighting.endpoints) == (STORE, "studio", GOOD["endpoints"])
    assert sighting.door == 0
    assert Sighting(**GOOD | {"door": 65535}).door == 65535


def test_endpoints_become_canonical_and_lose_repetitions() -> None:
    endpoints = ("tcp://[2001:DB8:0:0::1]:07000", "tcp://[2001:db8::1]:7000", "tcp://192.0.2.1:7000")
    sighting = Sighting(**GOOD | {"endpoints": endpoints})
    assert sighting.endpoints == ("tcp://[2001:db8::1]:7000", "tcp://192.0.2.1:7000")


@pytest.mark.parametrize(
    "change",
    [
        {"store": bytes(15)},
        {"store": "a" * 16},
        {"store": None},
        {"store": bytes(16)},
        {"store": store_of("b" * 32, 1)},
        {"device": "b" * 32},
        {"name": ""},
        {"name": "a" * 64},
        {"name": "two words"},
        {"name": "Capital"},
        {"name": "new\nline"},
        {"name": "\u202eevil"},
        {"name": 5},
        {"device": ""},
        {"device": "a" * 65},
        {"device": "A" * 32},
        {"device": "../" * 10},
        {"device": b"a" * 32},
        {"endpoints": ()},
        {"endpoints": [GOOD["endpoints"][0]]},
        {"endpoints": GOOD["endpoints"][0]},
        {"endpoints": tuple(f"tcp://192.0.2.1:{port}" for port in range(1, MAX_ENDPOINTS + 2))},
        {"endpoints": (7,)},
        {"door": -1},
        {"door": 65536},
        {"door": True},
        {"door": "7421"},
        {"door": None},
    ],
)
def test_a_bad_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Sighting(**GOOD | change)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://",
        "tcp://*:*",
        "tcp://192.0.2.1",
        "tcp://192.0.2.1:",
        "tcp://192.0.2.1:0",
        "tcp://192.0.2.1:65536",
        "tcp://192.0.2.1:7000 ",
        "tcp://192.0.2.1:7000\n",
        "tcp://192.0.2.1:7000;tcp://192.0.2.2:1",
        "tcp://eth0;192.0.2.1:7000",
        "tcp://192.0.2.1:+700",
        "tcp://192.0.2.1:\u0667\u0660",
        "tcp://192.0.2.256:7000",
        "tcp://1234567:1",
        "tcp://192.0.02.1:7000",
        "tcp://example.com:7000",
        "tcp://0.0.0.0:7000",
        "tcp://255.255.255.255:7000",
        "tcp://224.0.0.251:7000",
        "tcp://[::]:7000",
        "tcp://[ff02::fb]:7000",
        "tcp://[fe80::1]:7000",
        "tcp://[fe80::1%eth0]:7000",
        "tcp://[::ffff:192.0.2.1]:7000",
        "tcp://[192.0.2.1]:7000",
        "tcp://2001:db8::1:7000",
        "ipc:///tmp/socket",
        "udp://192.0.2.1:7000",
        "tcp://[" + "0:" * 60 + "1]:7000",
        "x" * 10_000_000,
        None,
        b"tcp://192.0.2.1:7000",
    ],
)
def test_what_is_not_the_endpoint_of_one_machine_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"\S") as refused:
        parse_endpoint(text)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "text", ["tcp://127.0.0.1:1", "tcp://169.254.1.2:65535", "tcp://[::1]:80", "tcp://[fd00::2]:9"]
)
def test_good_endpoints_are_written_as_they_were_read(text: str) -> None:
    assert str(parse_endpoint(text)) == text


def test_a_store_id_has_one_text_and_one_only() -> None:
    for _ in range(100):
        store = secrets.token_bytes(16)
        assert store_id(store_text(store)) == store
    good = store_text(STORE)
    for bad in (good[:-1], good + "a", good.upper(), good[:-1] + "7", "1" * 26, "", None, STORE):
        with pytest.raises(ValueError, match="not a store id"):
            store_id(bad)
