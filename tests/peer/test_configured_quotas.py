"""The table `[quotas]`: what it may say, and what is told about a slip in it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import zmesh
from tests.conftest import new_peer
from zmesh.peer.configuration import Configuration, load_configuration
from zmesh.peer.folders import FILE
from zmesh.protocol.quotas import default_quotas


def load(home: Path, text: str) -> Configuration:
    (home / FILE).write_text(text)
    return load_configuration(home)


@pytest.mark.parametrize(
    "text",
    [
        "[quotas]\nmailbox.messages = 50_000\npeer.bytes = 262_144\n",
        "[quotas.mailbox]\nmessages = 50000\n[quotas.peer]\nbytes = 262144\n",
        "quotas = { mailbox = { messages = 50000 }, peer = { bytes = 262144 } }\n",
    ],
)
def test_what_it_says_is_taken_and_the_rest_is_as_by_default(tmp_path: Path, text: str) -> None:
    expected = replace(default_quotas(), mailbox_messages=50_000, peer_bytes=262_144)
    assert load(tmp_path, text).quotas == expected
    assert load(tmp_path, "[quotas]\n").quotas == load(tmp_path, "").quotas == default_quotas()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("quotas = 7", r"quotas is a table.* \(at line 1\)"),
        ("[quotas]\nmailbox = 7", "'mailbox' is no quota: "),
        ("[quotas]\nmailbox.message = 7", "'mailbox.message' is no quota: did you mean 'mailbox.messages'"),
        ("[quotas]\nzzz.x = 7", "there are peer.messages, peer.bytes, mailbox.messages"),
        ("[quotas]\nmailbox.messages = 0", r"mailbox\.messages = 0: .* from 1 to 1000000 \(at line 1\)"),
        ("[quotas]\npeer.bytes = 262143", "from 262144 to"),
        ("[quotas]\npeer.bytes = '1G'", "a whole number"),
        ("[quotas]\nmailbox.messages.x = 1", "a whole number"),
    ],
)
def test_a_slip_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(zmesh.ConfigurationError, match=words):
        load(tmp_path, text)


def test_a_peer_is_started_with_them_and_follows_them_at_work(home: Path) -> None:
    home.mkdir()
    (home / FILE).write_text("[quotas]\nmailbox.messages = 1\ndevice.messages = 7\n")

    async def scenario() -> None:
        async with new_peer("laptop", home) as peer:
            code = await peer.agent("code")
            await code.send("code", "x")
            with pytest.raises(zmesh.MeshFull, match="mailbox 'code' is full"):
                await code.send("code", "y")
            usual = peer.driver.guard.standing("z" * 32, 0.0)[0]
            assert (usual.messages, usual.octets) == (7, default_quotas().device_bytes)
            peer.driver.limit(replace(default_quotas(), mailbox_messages=2, device_messages=8))
            assert peer.driver.guard.standing("z" * 32, 0.0)[0].messages == 8
            await code.send("code", "y")
            with pytest.raises(ValueError, match=r"peer\.messages = 0"):
                peer.driver.limit(replace(default_quotas(), peer_messages=0))

    asyncio.run(scenario())
