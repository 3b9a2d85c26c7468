"""A peer that misbehaves must not fill the log."""

import logging

import pytest

from zmesh.peer import log_filter
from zmesh.peer.log_filter import INTERVAL, Sparing


def record(template: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("zmesh.link", logging.WARNING, __file__, 1, template, args, None)


def test_a_template_passes_once_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("zmesh.peer.log_filter.time.monotonic", lambda: now)
    sparing = Sparing()
    assert sparing.filter(record("%s has said %d", "one", 1))
    assert not sparing.filter(record("%s has said %d", "two", 2)), "the same sentence about another"
    assert sparing.filter(record("something else"))
    now += INTERVAL
    assert sparing.filter(record("%s has said %d", "one", 3))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_filter, "_REMEMBERED", 2)
    sparing = Sparing()
    assert [sparing.filter(record(f"template {n}")) for n in range(5)] == [True] * 5
    sparing.forget()
    assert sparing.filter(record("template 4"))
