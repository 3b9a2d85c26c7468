"""ZAP: only what `admit` admits gets in, with the device id that `admit` gave, and every doubt ends as 300."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

from tests.waiting import until
from zmesh.peer.zap import REVOKED, STRANGER, ZAP_ENDPOINT, Admission, ZapHandler

KEY = bytes(range(32))
DOMAIN = b"test"


def request(
    key: bytes = KEY, mechanism: bytes = b"CURVE", domain: bytes = DOMAIN, version: bytes = b"1.0"
) -> list[bytes]:
    return [version, b"7", domain, b"127.0.0.1", b"chosen by the client", mechanism, key]


@contextmanager
def handler(admit: Callable[[bytes], Admission]) -> Iterator["zmq.Socket[bytes]"]:
    """Give a socket that asks as libzmq asks."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = ZapHandler(context, admit, DOMAIN)
    asker = context.socket(zmq.DEALER)
    asker.connect(ZAP_ENDPOINT)
    try:
        yield asker
    finally:
        zap.close()
        context.destroy(0)


def ask(admit: Callable[[bytes], Admission], *requests: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return status and User-Id for each request."""

    async def body() -> list[tuple[bytes, bytes]]:
        replies = []
        with handler(admit) as asker:
            for parts in requests:
                asker.send_multipart([b"", *parts])
                await until(lambda: asker.poll(0), what="the answer")
                _, version, request_id, status, _, user, metadata = asker.recv_multipart()
                assert (version, request_id, metadata) == (b"1.0", parts[1] if len(parts) > 1 else b"", b"")
                replies.append((status, user))
        return replies

    return asyncio.run(body())


@pytest.mark.parametrize(
    ("admission", "reply"),
    [
        (Admission.member("device"), (b"200", b"device")),
        (REVOKED, (b"400", b"")),
        (STRANGER, (b"300", b"")),
    ],
)
def test_each_decision_has_its_code(admission: Admission, reply: tuple[bytes, bytes]) -> None:
    asked: list[bytes] = []

    def admit(key: bytes) -> Admission:
        asked.append(key)
        return admission

    assert ask(admit, request()) == [reply]
    assert asked == [KEY]


@pytest.mark.parametrize(
    "doubtful",
    [
        request(mechanism=b"NULL"),
        request(mechanism=b"PLAIN"),
        request(key=b"short"),
        request(domain=b"another"),
        request(version=b"2.0"),
        request()[:6],
        [*request(), b"more"],
        [b"1.0"],
    ],
)
def test_whatever_is_not_a_curve_request_of_the_domain_is_a_stranger_unasked(doubtful: list[bytes]) -> None:
    asked: list[bytes] = []

    def admit(key: bytes) -> Admission:
        asked.append(key)
        return Admission.member("device")

    assert ask(admit, doubtful, request()) == [(b"300", b""), (b"200", b"device")]
    assert asked == [KEY]


def test_an_admit_that_raises_lets_nobody_in_and_answers_the_next(caplog: pytest.LogCaptureFixture) -> None:
    answers: Iterator[Exception | Admission] = iter([RuntimeError("no database"), Admission.member("device")])

    def admit(_: bytes) -> Admission:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert ask(admit, request(), request()) == [(b"300", b""), (b"200", b"device")]
    assert "could not be checked" in caplog.text


def test_a_member_needs_a_device_id() -> None:
    with pytest.raises(ValueError, match="needs a device id"):
        Admission.member("")


def test_only_one_handler_fits_a_context() -> None:
    async def body() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        zap = ZapHandler(context, lambda _: STRANGER, DOMAIN)
        with pytest.raises(zmq.ZMQError):
            ZapHandler(context, lambda _: STRANGER, DOMAIN)
        zap.close()
        context.destroy(0)

    asyncio.run(body())
