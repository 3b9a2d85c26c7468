"""What people type is read as the setting wants it, and what is not clear is refused."""

from typing import Any

import pytest

from zmesh.daemon.settings_value import path_of, read_value
from zmesh.errors import ConfigurationError


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("name", "7420", "7420"),
        ("name", "studio", "studio"),
        ("port", "7420", 7420),
        ("port", "x", "x"),
        ("peers", "192.0.2.7, tower.local", ["192.0.2.7", "tower.local"]),
        ("peers", "", []),
        ("discovery", '["mdns"]', ["mdns"]),
        ("discovery", "mdns rendezvous", ["mdns", "rendezvous"]),
        ("discovery", "[mdns", "[mdns"),
        ("quotas.mailbox.messages", "50_000", 50_000),
        ("quotas.mailbox.bytes", "128M", 128 << 20),
        ("quotas.device.bytes", "1 KiB/s", 1024),
        ("quotas.peer.bytes", "2g", 2 << 30),
        ("folders./projects/a.b", "true", "true"),
        ("adapters.http.on", "true", True),
        ("adapters.http.port", "8080", 8080),
        ("adapters.http.host", "localhost", "localhost"),
    ],
)
def test_values(key: str, text: str, value: Any) -> None:
    read = read_value(key, text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(("key", "text"), [("quotas.peer.messages", "5K"), ("quotas.peer.bytes", "many"),
                                           ("quotas.peer.bytes", "-1"), ("quotas.peer.messages", "1.5")])  # fmt: skip
def test_what_is_no_amount_is_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no amount: write"):
        read_value(key, text)


def test_names() -> None:
    assert path_of("port") == ["port"]
    assert path_of("quotas.peer.bytes") == ["quotas", "peer", "bytes"]
    assert path_of("folders.~/projects/a.b") == ["folders", "~/projects/a.b"]
    for key in ("", ".", "quotas.", "a..b", "folders."):
        with pytest.raises(ConfigurationError, match="no name of a setting"):
            path_of(key)


@pytest.mark.parametrize(("key", "value"), [(5, "6"), ("port", 6), (None, None)])
def test_what_is_no_text_is_refused(key: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="text"):
        read_value(key, value)
