"""Membership logs over links: who lacks something gets it, what is forged gets nowhere, and nobody is told twice."""

from collections import deque
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trust.support import DEVICES, bring_in, living, open_store
from zmesh.errors import TrustError
from zmesh.peer import trust_sync as module
from zmesh.peer.gate import Gate
from zmesh.peer.trust_sync import TrustSync
from zmesh.protocol.frames import Have, Ops
from zmesh.trust.entry import Rename

Frame = Have | Ops


class Net:
    """Devices whose links are queues."""

    def __init__(self, directory: Path, count: int) -> None:
        self.stores = [open_store(directory, number) for number in range(count)]
        self.sent: list[tuple[int, int, Frame]] = []
        self.queue: deque[tuple[int, int, Frame]] = deque()
        self.syncs = [self._sync(number) for number in range(count)]

    def _sync(self, number: int) -> TrustSync:
        def say(store: bytes, frame: Frame) -> None:
            message = (number, store[0], frame)
            self.sent.append(message)
            self.queue.append(message)

        gate = Gate(DEVICES[number], self.stores[number])
        return TrustSync(gate, say, lambda: self.syncs[number].spread())  # noqa: PLW0108 - it is not there yet

    def link(self, one: int, other: int) -> None:
        """A link comes up, and all is said that follows."""
        self.syncs[one].linked(bytes([other]))
        self.syncs[other].linked(bytes([one]))
        self.settle()

    def settle(self) -> None:
        """Let all frames arrive."""
        while self.queue:
            source, target, frame = self.queue.popleft()
            self.syncs[target].received(bytes([source]), frame)


def test_what_one_has_heard_all_hear(tmp_path: Path) -> None:
    net = Net(tmp_path, 3)
    ada, bob, cid = net.stores
    ada.found("ada")
    bring_in(ada, bob)
    net.link(0, 1)
    bring_in(bob, cid)
    net.syncs[1].spread()
    net.settle()
    assert living(ada) == {"ada", "bob", "cid"}, "pushed, without a new link"
    net.link(1, 2)
    net.link(0, 2)
    ada.say(ada.revocation(DEVICES[2].public))
    net.syncs[0].spread()
    net.settle()
    assert all(living(store) == {"ada", "bob"} for store in net.stores), "the victim hears of it too"


def test_nobody_is_told_what_it_has(tmp_path: Path) -> None:
    net = Net(tmp_path, 2)
    ada, bob = net.stores
    ada.found("ada")
    bring_in(ada, bob)
    net.link(0, 1)
    net.sent.clear()
    net.syncs[0].spread()
    net.syncs[1].spread()
    net.link(0, 1)
    assert [type(frame) for _, _, frame in net.sent] == [Have, Have]


def test_who_comes_back_with_news_is_asked_for_it(tmp_path: Path) -> None:
    """The other side has not noticed that the link is a new one, and says nothing of itself."""
    net = Net(tmp_path, 2)
    ada, bob = net.stores
    ada.found("ada")
    bring_in(ada, bob)
    net.link(0, 1)
    ada.say(Rename(DEVICES[0].public, "queen"))
    net.syncs[0].linked(bytes([1]))
    net.settle()
    assert living(bob) == {"queen", "bob"}


def test_a_device_in_no_mesh_and_one_of_another_mesh_say_and_hear_nothing(tmp_path: Path) -> None:
    net = Net(tmp_path, 3)
    net.stores[0].found("ada")
    net.stores[1].found("bob")
    net.link(0, 1)
    net.link(0, 2)
    assert [type(frame) for _, _, frame in net.sent] == [Have] * 3
    assert living(net.stores[2]) == set()
    assert [living(store) for store in net.stores[:2]] == [{"ada"}, {"bob"}]


def test_many_entries_travel_in_several_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(tmp_path, 2)
    ada, bob = net.stores
    ada.found("ada")
    bring_in(ada, bob)
    for number in range(20):
        ada.say(Rename(DEVICES[0].public, f"ada{number}"))
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 1500)
    net.link(0, 1)
    frames = [frame for source, _, frame in net.sent if source == 0 and isinstance(frame, Ops)]
    assert len(frames) > 2
    assert all(len(frame.content) <= 1500 for frame in frames)
    assert "ada19" in living(bob)


def test_a_forged_entry_gets_no_further(tmp_path: Path) -> None:
    net = Net(tmp_path, 2)
    ada, bob = net.stores
    ada.found("ada")
    bring_in(ada, bob)
    entry = ada.say(Rename(DEVICES[0].public, "queen"))
    content = msgpack.packb([(entry.payload, bytes(64))])
    with pytest.raises(TrustError, match="was not signed by it"):
        net.syncs[1].received(b"\0", Ops(ada.mesh, content))
    assert living(bob) == {"ada", "bob"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1", msgpack.packb({}), msgpack.packb(1), msgpack.packb([b"k" * 32]), msgpack.packb([b"k", 1, b"h" * 32]),
     msgpack.packb([b"k" * 32, 0, b"h" * 32]), msgpack.packb([b"k" * 32, "1", b"h" * 32]),
     msgpack.packb([b"k" * 32, 1, b"h"]), msgpack.packb([1, 2]), msgpack.packb([b"k" * 32, 1, b"h" * 32] * 5000)],
)  # fmt: skip
def test_what_is_malformed_is_refused(tmp_path: Path, content: bytes) -> None:
    net = Net(tmp_path, 1)
    net.stores[0].found("ada")
    mesh = net.stores[0].mesh
    refused = 0
    for frame in (Have(mesh, content), Ops(mesh, content)):
        try:
            net.syncs[0].received(b"\1", frame)
        except TrustError:
            refused += 1
    assert refused >= 1


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        module._read_vector(content)  # noqa: SLF001 - what strangers' bytes reach
    except TrustError as error:
        assert str(error)  # noqa: PT017 - either is right
