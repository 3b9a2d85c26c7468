"""Quotas: ranges that let every message pass and keep memory bounded, and a core that takes new ones while it runs."""

from dataclasses import replace

import pytest

from tests.protocol.pair import two
from zmesh.errors import MeshFull
from zmesh.protocol.bounds import MAX_BODY, MOST_MESSAGES, QUOTA_MESSAGES, RATE_MESSAGES
from zmesh.protocol.commands import SetQuotas
from zmesh.protocol.quotas import RANGES, Quotas, check_quota, checked_quotas, default_quotas
from zmesh.protocol.states import Sent


def test_each_quota_has_a_range_and_the_defaults_are_in_it() -> None:
    assert list(RANGES) == list(Quotas.__dataclass_fields__)
    assert checked_quotas(default_quotas()) == default_quotas()
    assert default_quotas().peer_messages == QUOTA_MESSAGES
    assert default_quotas().device_messages == RATE_MESSAGES
    assert all(0 < least < most for least, most in RANGES.values())
    assert all(least >= MAX_BODY for name, (least, _) in RANGES.items() if name in ("peer_bytes", "mailbox_bytes"))


@pytest.mark.parametrize("value", [0, MOST_MESSAGES + 1, 1.5, True, "7", None])
def test_what_is_no_quota_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"^mailbox\.messages = .*from 1 to 1000000$"):
        check_quota("mailbox_messages", value)


def test_a_quota_is_taken_while_the_core_runs_and_what_is_there_stays() -> None:
    world, a, b = two(listening=False)
    idents = [a.send("inbox@b") for _ in range(3)]
    world.run(1.0)
    b.command(SetQuotas(replace(default_quotas(), mailbox_messages=2)))
    later = a.send("inbox@b")
    world.run(1.0)
    assert [a.receipt(ident) for ident in idents] == [Sent.STORED] * 3
    assert a.receipt(later) is Sent.QUEUED
    b.command(SetQuotas(replace(default_quotas(), mailbox_messages=4)))
    world.run(40.0)
    assert a.receipt(later) is Sent.STORED, "the sender tries again by itself"
    a.command(SetQuotas(replace(default_quotas(), peer_messages=1)))
    b.kill()
    world.run(30.0)
    a.send("inbox@b")
    with pytest.raises(MeshFull, match="the quota is 1 messages"):
        a.send("inbox@b")


def test_a_quota_out_of_its_range_changes_nothing() -> None:
    _, a, _ = two()
    with pytest.raises(ValueError, match=r"device\.bytes = 0"):
        a.command(SetQuotas(replace(default_quotas(), peer_messages=1, device_bytes=0)))
    assert a.core.node.quotas == a.core.node.inbox.quotas == a.core.node.outbox.quotas == default_quotas()


def test_quotas_outlive_a_snapshot_that_is_restored() -> None:
    _, a, _ = two()
    a.command(SetQuotas(replace(default_quotas(), peer_messages=7)))
    a.core.node.restore(a.disk.snapshot())
    assert a.core.node.inbox.quotas == a.core.node.outbox.quotas == a.core.node.quotas
