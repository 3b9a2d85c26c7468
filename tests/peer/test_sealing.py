"""What is sealed can be read by the device it is for, and by nobody else."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import Box, PrivateKey, PublicKey

from zmesh.peer import sealing
from zmesh.peer.log_filter import Sparing
from zmesh.peer.sealing import SEAL, SEAL_OVERHEAD, Sealer, is_sealed
from zmesh.protocol.bounds import MAX_FRAME
from zmesh.trust.device import Device

ALICE, BOB, MALLORY = (Device.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
KEYS = {device.id: device.curve_public for device in (ALICE, BOB, MALLORY)}


def sealer(device: Device) -> Sealer:
    return Sealer(device, KEYS.get)


def sealed(parts: list[bytes], to: Device = BOB) -> list[bytes]:
    made = sealer(ALICE).seal(to.id, parts)
    assert made is not None
    return made


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=2))
def test_what_is_sealed_opens_at_its_recipient_as_it_was(parts: list[bytes]) -> None:
    made = sealed(parts)
    assert is_sealed(made)
    assert not is_sealed(parts) or parts[0][:2] == SEAL[:2]
    assert sealer(BOB).open(ALICE.id, made) == parts


def test_it_is_larger_by_no_more_than_it_says() -> None:
    assert len(sealed([bytes(MAX_FRAME)])[1]) == MAX_FRAME + SEAL_OVERHEAD


def test_whoever_gets_it_instead_learns_nothing() -> None:
    secret = b"the meeting is at nine"
    made = sealed([b"ZM", secret])
    assert sealer(MALLORY).open(ALICE.id, made) is None
    assert secret not in b"".join(made)


def test_nobody_can_seal_in_the_name_of_another_device() -> None:
    made = sealer(MALLORY).seal(BOB.id, [b"ZM"])
    assert made is not None
    assert sealer(BOB).open(ALICE.id, made) is None


def test_what_was_changed_on_the_way_does_not_open(caplog: pytest.LogCaptureFixture) -> None:
    for each in logging.getLogger("zmesh.link").filters:
        assert isinstance(each, Sparing)
        each.forget()
    head, box = sealed([b"ZM", b"body"])
    for parts in (
        [head], [head, box[:-1]], [head, box[:10]], [head, b""], [b"ZS\x02", box], [head, box, b""],
        [head, bytes([box[0] ^ 1]) + box[1:]], [head, box[:-1] + bytes([box[-1] ^ 1])],
    ):  # fmt: skip
        assert sealer(BOB).open(ALICE.id, parts) is None
    assert "was not sealed to this device" in caplog.text


@pytest.mark.parametrize("plain", [b"", b"\1", b"\0\0\0\0\0", b"\1\0\0\0\2x", b"\2\0\0\0\2x", b"\3\0\0\0\1x"])
def test_a_box_of_nonsense_does_not_open(plain: bytes) -> None:
    box = Box(PrivateKey(ALICE.curve_secret), PublicKey(BOB.curve_public))
    assert sealer(BOB).open(ALICE.id, [SEAL, bytes(box.encrypt(plain))]) is None


def test_who_is_no_member_is_not_sealed_to_and_not_opened_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sealed([b"ZM"])
    alice, bob = sealer(ALICE), sealer(BOB)
    assert alice.seal(BOB.id, [b"ZM"])
    monkeypatch.delitem(KEYS, ALICE.id)
    monkeypatch.delitem(KEYS, BOB.id)
    assert alice.seal(BOB.id, [b"ZM"]) is None
    assert bob.open(ALICE.id, made) is None


def test_the_shared_keys_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_PEERS", 1)
    alice = sealer(ALICE)
    for device in (BOB, MALLORY, BOB):
        made = alice.seal(device.id, [b"ZM"])
        assert made is not None
        assert sealer(device).open(ALICE.id, made) == [b"ZM"]
    assert len(alice._boxes) == 1  # noqa: SLF001
