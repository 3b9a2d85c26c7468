"""What others send that they should not: too large, garbage, another version, another device."""

import asyncio
import logging
from pathlib import Path

import pytest

import zmesh
from tests.faults.support import PATIENCE, Outsider, all_stored, collect, knows, make_peer, meet, peers, run, send_all
from tests.stores import store_of
from tests.storm.processes import disk_directory
from tests.trust.support import DEVICES, bring_in
from tests.waiting import until
from zmesh.peer.home import device_key_path, trust_path
from zmesh.protocol.bounds import CLASSES, LINK_ID_BYTES, MAX_BODY, MAX_FRAME, NO_ID
from zmesh.protocol.codec import HEADER_BYTES, decode, encode
from zmesh.protocol.frames import Bye, Cursor, Hello
from zmesh.trust.device import Device
from zmesh.trust.trust_store import TrustStore

LINK = b"L" * LINK_ID_BYTES

GARBAGE: dict[str, list[bytes]] = {
    "nothing": [b""],
    "noise": [bytes(range(256)) * 40],
    "http": [b"GET / HTTP/1.1\r\n\r\n"],
    "magic alone": [b"ZM"],
    "no msgpack": [b"ZM\x01\x03" + LINK + b"\xc1" * 50, b"body"],
    "a bomb": [b"ZM\x01\x03" + LINK + b"\xdd\xff\xff\xff\xff" * 20, b""],
    "must be understood": [b"ZM\x01\xff" + LINK + b"\x90"],
    "many parts": [b"ZM\x01\x04" + LINK + b"\x90"] * 500,
    "over the bound": [b"ZM\x01\x03" + LINK + bytes(MAX_FRAME), b"body"],
    "hello without fields": [b"ZM\x01\x01" + LINK + b"\x90"],
}


def hello(store: bytes, low: int, high: int, *, name: str = "newer") -> list[bytes]:
    """Make the HELLO of a peer that speaks these versions."""
    cursors = (Cursor(0, NO_ID),) * CLASSES
    frame = Hello(low, high, store, name, ("tcp://127.0.0.1:9",), b"", False, 0, cursors, (0,) * CLASSES)  # noqa: FBT003
    return encode(LINK, frame)


def test_a_body_over_the_bound_is_refused_and_one_at_the_bound_arrives(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a", "b") as (a, b):
            sender, receiver = await a.agent("sender"), await b.agent("receiver")
            await meet(a, "receiver@b")
            with pytest.raises(zmesh.BodyTooLarge) as caught:
                await sender.send("receiver@b", bytes(MAX_BODY + 1))
            assert str(caught.value) == (
                "the body has 262145 bytes, more than the 262144 one message can carry: "
                "send a reference to the data, or send it in pieces"
            )
            receipt = await sender.send("receiver@b", bytes(MAX_BODY))
            (message,) = await collect(receiver, 1)
            assert message.id == receipt.id
            assert message.body == bytes(MAX_BODY)
            await receipt.handled(PATIENCE)

    run(test)


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_harms_nobody(home: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with peers(home, "a", "b") as (a, b):
            sender, receiver = await a.agent("sender"), await b.agent("receiver")
            await meet(a, "receiver@b")
            device = Device.load_or_create(home / "device.key")
            (remote,) = a.driver.core.node.remotes.values()
            link = remote.link.id
            collecting = asyncio.create_task(collect(receiver, 300))
            receipts = await send_all(sender, "receiver@b", list(range(100)))
            with Outsider(device, device, b.endpoints[0]) as outsider:
                for part in range(2):
                    for _ in range(10):
                        await outsider.send(GARBAGE[name])
                    receipts += await send_all(sender, "receiver@b", list(range(100 * part + 100, 100 * part + 200)))
                await all_stored(receipts)
            assert [message.body for message in await collecting] == list(range(300))
            assert remote.link.id == link, "the link of others has suffered"
            assert {info.name for info in b.peers()} == {"a"}

    caplog.set_level(logging.INFO, "zmesh")
    run(test)
    said = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert len(said) <= 3, "a hostile peer fills the log"
    if name == "noise":
        assert said == ["bad-magic: a frame was dropped: this is not a zmesh frame"]


def test_a_peer_of_a_newer_version_is_told_so(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "'newer' speaks versions 99 to 99 of the protocol, 'a' speaks 1 to 1: upgrade the older one"

    async def test() -> None:
        async with peers(home, "a") as (a,):
            device = Device.load_or_create(home / "device.key")
            for version in (1, 99):  # a HELLO is readable whatever version its header is of
                with Outsider(device, device, a.endpoints[0]) as outsider:
                    first, *rest = hello(store_of(device.id, 1), 99, 99)
                    assert len(first) > HEADER_BYTES
                    await outsider.send([first[:2] + bytes([version]) + first[3:], *rest])
                    link, frame = decode(await outsider.receive())
                    assert (link, frame) == (LINK, Bye("version", text))
            assert a.peers() == []

    caplog.set_level(logging.INFO, "zmesh")
    run(test)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [f"version: {text}"]


def test_a_peer_that_speaks_our_version_among_others_is_welcome(home: Path) -> None:
    async def test() -> None:
        async with peers(home, "a") as (a,):
            device = Device.load_or_create(home / "device.key")
            with Outsider(device, device, a.endpoints[0]) as outsider:
                await outsider.send(hello(store_of(device.id, 1), 1, 99))
                await until(lambda: [info.name for info in a.peers()] == ["newer"], PATIENCE, "the newcomer is known")

    run(test)


def test_another_device_is_never_let_in(home: Path) -> None:
    async def test(other: Path) -> None:
        async with peers(home, "a", "b") as (a, b):
            receiver, sender = await a.agent("receiver"), await b.agent("sender")
            own, stranger = Device.load_or_create(home / "device.key"), Device.load_or_create(other / "device.key")
            # It has found out where the peers are, by a rendezvous file that fell into its hands.
            (other / "rendezvous").mkdir(mode=0o700)
            for file in (home / "rendezvous").glob("*.json"):
                (other / "rendezvous" / file.name).write_bytes(file.read_bytes())
            async with make_peer("mallory", other) as mallory:
                spy = await mallory.agent("spy")
                receipt = await spy.send("receiver@a", "let me in")

                with Outsider(stranger, own, a.endpoints[0]) as outsider:
                    await until(lambda: outsider.refusals >= 3, PATIENCE, "the outsider has tried again and again")
                    assert not outsider.admitted
                assert receipt.state == "waiting"
                assert mallory.peers() == [], "who is in no mesh with it, it does not even dial"
            assert [info.name for info in a.peers()] == ["b"]
            assert knows(b, "receiver", "a")
            stored = await sender.send("receiver@a", "from a friend")
            await stored.stored(PATIENCE)
            assert [message.body for message in await collect(receiver, 1)] == ["from a friend"]

    with disk_directory("zmesh-other-") as other:
        run(lambda: test(other))


def found_mesh(*homes: Path) -> None:
    """Make each home a device of one mesh, all of which look into one directory for each other."""
    stores = []
    for home, device in zip(homes, DEVICES, strict=False):
        device_key_path(home).write_bytes(device.seed)
        device_key_path(home).chmod(0o600)
        stores.append(TrustStore(trust_path(home), device))
    (homes[0] / "rendezvous").mkdir(mode=0o700)
    stores[0].found("ada")
    for home, store in zip(homes[1:], stores[1:], strict=True):
        (home / "rendezvous").symlink_to(homes[0] / "rendezvous")
        bring_in(stores[0], store)
    for store in stores:
        store.close()


def test_a_member_cannot_take_the_store_of_one_that_was_not_heard_yet(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(bob: Path, eve: Path) -> None:
        found_mesh(home, bob, eve)
        async with make_peer("b", bob) as b:
            store = b.driver.core.node.store
        async with make_peer("a", home) as a:
            sender = await a.agent("sender")
            with Outsider(DEVICES[2], DEVICES[0], a.endpoints[0]) as outsider:
                await outsider.send(hello(store, 1, 1, name="b"))
                await until(lambda: "forged-store" in caplog.text, PATIENCE, "the claim is refused")
            assert f"'b' of device {DEVICES[2].id} claims store" in caplog.text
            assert a.peers() == []
            async with make_peer("b", bob) as b:
                receiver = await b.agent("receiver")
                await meet(a, "receiver@b")
                assert [remote.store for remote in a.driver.core.node.remotes.values()] == [store]
                await all_stored([await sender.send("receiver@b", "for the owner")])
                assert [message.body for message in await collect(receiver, 1)] == ["for the owner"]

    with disk_directory("zmesh-bob-") as bob, disk_directory("zmesh-eve-") as eve:
        run(lambda: test(bob, eve))
