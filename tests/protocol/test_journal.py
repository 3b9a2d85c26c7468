"""The ops and rows of the journal: data that cannot change, complete, and made of what a database holds."""

import dataclasses
import typing
from typing import Any

import pytest

from zmesh.protocol import journal
from zmesh.protocol.bounds import NO_ID
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.journal import DropPeer, InRow, Op, OutRow, PutIn, PutOut, Snapshot, Written
from zmesh.protocol.states import Received, Sent

CLASSES: dict[str, Any] = {
    name: value
    for name, value in vars(journal).items()
    if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == journal.__name__
}
READ_BACK = {OutRow, InRow, Snapshot, Written}
COLUMNS = {int, float, str, bytes, bool, Sent, Received, float | None, tuple[str, ...], tuple[bytes, ...]}


def test_every_class_is_an_op_or_is_read_back() -> None:
    assert set(typing.get_args(Op)) == set(CLASSES.values()) - READ_BACK


@pytest.mark.parametrize("name", CLASSES)
def test_an_op_is_a_record(name: str) -> None:
    assert CLASSES[name].__dataclass_params__.unsafe_hash
    assert hasattr(CLASSES[name], "__slots__")
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", [n for n, c in CLASSES.items() if c not in (Snapshot, Written)])
def test_the_fields_are_what_a_database_holds(name: str) -> None:
    for kind in typing.get_type_hints(CLASSES[name]).values():
        assert kind in COLUMNS or kind == tuple[AgentRecord, ...]


@pytest.mark.parametrize(("put", "row"), [(PutOut, OutRow), (PutIn, InRow)])
def test_a_row_is_read_back_with_the_names_it_was_put_with(put: Any, row: Any) -> None:
    written = {field.name for field in dataclasses.fields(put)}
    read = {field.name for field in dataclasses.fields(row)}
    assert read - written == {"size"}


def test_an_empty_snapshot_is_a_fresh_store() -> None:
    fresh = Snapshot()
    assert fresh.store == NO_ID
    assert (fresh.next_out, fresh.next_in) == (1, 1)
    names = [field.name for field in dataclasses.fields(fresh)]
    assert all(getattr(fresh, name) == () for name in names if name != "store" and not name.startswith("next_"))


def test_equal_ops_are_one_op() -> None:
    assert len({DropPeer(NO_ID), DropPeer(NO_ID), DropPeer(b"x" * 16)}) == 2
