"""The client's side without a socket: restarts at any point, forgotten polls, more requests than are let go at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.daemon.conversation import AT_ONCE, Answer, Conversation
from zmesh.daemon.wire import FAILED, HELLO, OK, VERSION, Frames, pack
from zmesh.errors import DaemonError, LeaseLost, MeshError, MeshFull, UnknownAgent

WELCOME = {"peer": "laptop", "address": "code@laptop", "taken": [], "gone": []}


def read(data: bytes) -> list[list[Any]]:
    return list(Frames().feed(data))


def greet(talk: Conversation, now: float = 0.0, **told: Any) -> tuple[list[Answer], list[list[Any]]]:
    """Let a daemon welcome it; return what is answered by that, and what is asked then."""
    assert read(talk.connected())[0][:2] == [HELLO, "hello"]
    return heard(talk, [HELLO, OK, WELCOME | told], now=now)


def heard(talk: Conversation, *frames: list[Any], now: float = 0.0) -> tuple[list[Answer], list[list[Any]]]:
    """Let the daemon say this; return what is answered by that, and what is asked then."""
    answers: list[Answer] = []
    asked: list[list[Any]] = []
    for each in talk.received(b"".join(map(pack, frames)), now):
        if isinstance(each, bytes):
            asked += read(each)
        else:
            answers.append(each)
    return answers, asked


def message(lease: int, **changes: Any) -> dict[str, Any]:
    return {"lease": lease, "id": bytes(16), "body": [b"text", False]} | changes


def ready(**said: Any) -> Conversation:
    talk = Conversation(**said)
    greet(talk)
    return talk


def held(talk: Conversation) -> list[int]:
    return [each["lease"] for each in read(talk.connected())[0][2]["held"]]


# --- asking ---


def test_the_hello_says_what_was_said_and_nothing_is_asked_before_the_welcome() -> None:
    talk = Conversation(pid=7, mailbox="code")
    assert talk.request("peers", {}, 0.0) == (1, b"")
    assert read(talk.connected()) == [[HELLO, "hello", {"v": VERSION, "held": [], "pid": 7, "mailbox": "code"}]]
    assert heard(talk, [HELLO, OK, WELCOME]) == ([], [[1, "peers", {}]])
    assert talk.told["address"] == "code@laptop"
    number, data = talk.request("agents", {"a": 1}, 0.0)
    assert read(data) == [[number, "agents", {"a": 1}]]


def test_errors_come_as_what_they_are_called() -> None:
    talk = ready()
    for name, kind in (
        ("UnknownAgent", UnknownAgent), ("ValueError", ValueError), ("TypeError", TypeError), ("KeyError", DaemonError),
        ("Any", DaemonError), ("Final", DaemonError), ("MeshError", MeshError), ("", DaemonError),
    ):  # fmt: skip
        number, _ = talk.request("send", {}, 0.0)
        ((answer,), _) = heard(talk, [number, FAILED, name, "why"])
        assert isinstance(answer.error, kind)
        assert isinstance(answer.error, MeshError)
        assert str(answer.error) == "why"


def test_a_daemon_that_does_not_take_the_client_says_why() -> None:
    talk = Conversation()
    talk.connected()
    with pytest.raises(MeshFull, match="enough"):
        heard(talk, [HELLO, FAILED, "MeshFull", "enough"])


@pytest.mark.parametrize(
    "answer", [None, 7, [7], [{}], [{"lease": []}], {"lease": 1}, "text", [[1, 2]], [{"id": bytes(16)}]]
)
def test_an_answer_that_makes_no_sense_ends_the_conversation_with_an_error(answer: Any) -> None:
    talk = ready()
    number, _ = talk.request("poll", {"most": 1}, 0.0)
    with pytest.raises(DaemonError, match="not to be understood"):
        heard(talk, [number, OK, answer])


@pytest.mark.parametrize("told", [None, 7, {}, {"gone": 7, "taken": []}, {"gone": [[]], "taken": []}, []])
def test_a_welcome_that_makes_no_sense_is_an_error_too(told: Any) -> None:
    talk = Conversation()
    talk.connected()
    with pytest.raises(DaemonError, match="not to be understood"):
        heard(talk, [HELLO, OK, told])


def test_answers_to_nothing_are_nothing() -> None:
    assert heard(ready(), [99, OK, []], [98, FAILED, "MeshFull", "x"]) == ([], [])


def test_only_so_many_requests_are_under_way_and_what_waits_long_holds_up_none() -> None:
    talk = ready()
    for _ in range(AT_ONCE):
        assert talk.request("wait", {"timeout": None}, 0.0)[1]
    first = [talk.request("send", {"n": n}, 0.0) for n in range(AT_ONCE)]
    assert all(data for _, data in first)
    later = [talk.request("send", {"n": n}, 0.0) for n in range(3)]
    assert [data for _, data in later] == [b""] * 3
    assert talk.request("poll", {"timeout": 1.0}, 0.0)[1]
    assert talk.forget(later[0][0]) == b"", "it was never asked"
    answers, asked = heard(talk, [first[5][0], OK, {}])
    assert [answer.number for answer in answers] == [first[5][0]]
    assert [number for number, *_ in asked] == [later[1][0]]
    _, asked = greet(talk)
    assert len(asked) == 2 * AT_ONCE + 1, "after a restart as many as before"
    (_, asked) = heard(talk, [first[0][0], OK, {}], [first[1][0], OK, {}])
    assert [number for number, *_ in asked] == [later[2][0]]


@pytest.mark.parametrize(("wrong", "kind"), [("\udcff", ValueError), (1 << 70, ValueError), (object(), TypeError)])
def test_what_cannot_be_written_is_an_error_of_the_mesh_and_asks_for_nothing(wrong: Any, kind: type[Exception]) -> None:
    talk = ready()
    with pytest.raises(kind, match="an argument of 'send' cannot be sent") as raised:
        talk.request("send", {"to": wrong}, 0.0)
    assert isinstance(raised.value, MeshError)
    assert not talk.urgent


# --- forgotten ---


def test_a_poll_that_nobody_waits_for_is_forgotten_and_what_it_brings_goes_back_uncounted() -> None:
    talk = ready()
    number, _ = talk.request("poll", {"most": 5}, 0.0)
    assert [frame[1:] for frame in read(talk.forget(number))] == [["forget", {"number": number}]]
    answers, asked = heard(talk, [number, OK, [message(3), message(4)]])
    assert answers == []
    assert [(verb, of["lease"], of["counted"]) for _, verb, of in asked] == [("nack", 3, False), ("nack", 4, False)]
    assert held(talk) == []
    assert talk.forget(number) == b""


def test_what_came_and_was_not_looked_at_can_be_given_back() -> None:
    talk = ready()
    number, _ = talk.request("ask", {"timeout": 1.0}, 0.0)
    ((answer,), _) = heard(talk, [number, OK, message(3)])
    assert held(talk) == [3]
    assert [frame[1] for frame in read(talk.give_back("ask", answer.value))] == ["nack"]
    assert held(talk) == []
    assert talk.give_back("send", {"id": b""}) == b""


def test_a_send_is_not_taken_back_and_one_that_was_not_asked_yet_is_never_asked() -> None:
    talk = ready()
    number, _ = talk.request("send", {}, 0.0)
    assert talk.forget(number) == b""
    assert heard(talk, [number, OK, {}]) == ([], [])
    talk.lost()
    number, _ = talk.request("send", {}, 0.0)
    assert talk.forget(number) == b""
    assert greet(talk) == ([], [])


def test_what_was_forgotten_before_a_restart_is_not_asked_again() -> None:
    talk = ready()
    number, _ = talk.request("poll", {}, 0.0)
    talk.forget(number)
    talk.lost()
    assert greet(talk) == ([], [])


# --- restarts ---


def test_what_was_not_answered_is_asked_again_in_its_order_with_the_time_that_is_left() -> None:
    talk = ready()
    talk.request("ask", {"timeout": 10.0}, 0.0)
    talk.request("send", {"n": 1}, 0.0)
    talk.request("poll", {"timeout": None}, 0.0)
    talk.lost()
    talk.request("ask", {"timeout": 10.0}, 3.0)
    _, asked = greet(talk, now=4.0)
    assert asked == [
        [1, "ask", {"timeout": 6.0, "again": True}],
        [2, "send", {"n": 1, "again": True}],
        [3, "poll", {"timeout": None, "again": True}],
        [4, "ask", {"timeout": 9.0}],
    ]
    _, asked = greet(talk, now=99.0)
    assert [of["timeout"] for _, verb, of in asked if verb == "ask"] == [0.0, 0.0]


def test_what_is_held_is_said_without_bodies_until_it_is_finished() -> None:
    talk = ready()
    number, _ = talk.request("poll", {}, 0.0)
    heard(talk, [number, OK, [message(1), message(2), message(3)]])
    done, _ = talk.request("done", {"lease": 1}, 0.0)
    heard(talk, [done, OK, None])
    lost, _ = talk.request("reply", {"lease": 2}, 0.0)
    ((answer,), _) = heard(talk, [lost, FAILED, "LeaseLost", "gone"])
    assert isinstance(answer.error, LeaseLost)
    assert read(talk.connected())[0][2]["held"] == [{"lease": 3, "id": bytes(16)}]


def test_ends_of_what_was_finished_or_taken_meanwhile_are_answered_at_the_welcome() -> None:
    talk = ready()
    number, _ = talk.request("poll", {}, 0.0)
    heard(talk, [number, OK, [message(row) for row in range(1, 6)]])
    asked = {
        talk.request(verb, {"lease": lease}, 0.0)[0]: (verb, lease)
        for verb, lease in (("done", 1), ("nack", 2), ("done", 3), ("nack", 4), ("reply", 1), ("done", 5))
    }
    talk.lost()
    answers, again = greet(talk, gone=[1, 2], taken=[3, 4])
    results = {asked[answer.number]: type(answer.error) for answer in answers}
    none = type(None)
    assert results == {("done", 1): none, ("nack", 2): none, ("done", 3): LeaseLost, ("nack", 4): none}
    assert [asked[number] for number, *_ in again] == [("reply", 1), ("done", 5)]
    assert held(talk) == [5]


def test_a_row_that_is_leased_anew_before_its_end_is_answered_is_held() -> None:
    talk = ready()
    poll, _ = talk.request("poll", {}, 0.0)
    heard(talk, [poll, OK, [message(1)]])
    nack, _ = talk.request("nack", {"lease": 1}, 0.0)
    poll, _ = talk.request("poll", {}, 0.0)
    heard(talk, [poll, OK, [message(1)]], [nack, OK, None])
    assert held(talk) == [1]
    done, _ = talk.request("done", {"lease": 1}, 0.0)
    heard(talk, [done, OK, None])
    assert held(talk) == []


def test_the_next_daemon_is_told_the_status_again() -> None:
    talk = ready()
    number, _ = talk.request("status", {"status": "busy"}, 0.0)
    assert "status" not in read(talk.connected())[0][2]
    greet(talk)
    heard(talk, [number, OK, None])
    assert read(talk.connected())[0][2]["status"] == "busy"


class Daemon:
    """A daemon of one mailbox, as simple as can be: it never loses what it has said that it has."""

    def __init__(self, count: int) -> None:
        self.unread = list(range(1, count + 1))
        self.leased: set[int] = set()
        self.done: list[int] = []
        self.sent: list[bytes] = []

    def serve(self, request: list[Any]) -> list[Any] | None:
        number, verb, of = request
        if verb == "hello":
            had = {each["lease"] for each in of["held"]}
            gone = sorted(had & set(self.done))
            self.unread = sorted({*self.unread, *self.leased} - had)
            self.leased &= had
            return [HELLO, OK, WELCOME | {"gone": gone}]
        if verb == "poll":
            taken, self.unread = self.unread[: of["most"]], self.unread[of["most"] :]
            self.leased |= set(taken)
            return [number, OK, [message(row) for row in taken]]
        if verb == "done":
            if of["lease"] not in self.leased:
                return [number, FAILED, "LeaseLost", "no"]
            self.leased.discard(of["lease"])
            self.done.append(of["lease"])
        if verb == "nack":
            self.leased.discard(of["lease"])
            self.unread.insert(0, of["lease"])
        if verb == "send" and of["ident"] not in self.sent:
            self.sent.append(of["ident"])
        return [number, OK, None] if verb != "forget" else None


class Weather:
    """A conversation and its daemon, with a connection between them that may be lost at any point."""

    def __init__(self) -> None:
        self.talk, self.daemon = Conversation(), Daemon(count=6)
        self.on_their_way: list[list[Any]] = []
        self.answers: dict[int, Answer] = {}
        self.polls: set[int] = set()
        self.held: list[int] = []
        self.ends: set[int] = set()
        self.sends: set[int] = set()
        self.say(self.talk.connected())

    def say(self, sent: bytes) -> None:
        self.on_their_way += read(sent)

    def hear(self, frame: list[Any]) -> None:
        for each in self.talk.received(pack(frame), 0.0):
            if isinstance(each, bytes):
                self.say(each)
                continue
            self.answers[each.number] = each
            if each.number in self.polls:
                self.held += [told["lease"] for told in each.value]

    def kill(self) -> None:
        self.talk.lost()
        self.on_their_way.clear()
        self.say(self.talk.connected())

    def ask(self, verb: str, asked: set[int], **arguments: Any) -> None:
        number, sent = self.talk.request(verb, arguments, 0.0)
        asked.add(number)
        self.say(sent)

    def poll(self) -> None:
        self.ask("poll", self.polls, most=2)

    def send(self) -> None:
        self.ask("send", self.sends, ident=bytes([len(self.sends)]))

    def done(self) -> None:
        if self.held:
            self.ask("done", self.ends, lease=self.held.pop())

    def forget(self) -> None:
        waiting = self.polls - set(self.answers)
        if waiting:
            self.polls.discard(min(waiting))
            self.say(self.talk.forget(min(waiting)))

    def step(self, *, lost: bool = False) -> None:
        if self.on_their_way:
            answer = self.daemon.serve(self.on_their_way.pop(0))
            if lost:
                self.kill()
            elif answer is not None:
                self.hear(answer)

    def lose(self) -> None:
        self.step(lost=True)

    def clear_up(self) -> None:
        while self.on_their_way or self.held or self.daemon.unread:
            while self.on_their_way:
                self.step()
            self.done()
            if self.daemon.unread:
                self.poll()


@given(st.lists(st.sampled_from(["poll", "send", "done", "forget", "step", "step", "lose", "kill"]), max_size=50))
def test_whenever_the_daemon_is_ended_everything_is_sent_and_done_once(events: list[str]) -> None:
    """Each request or answer on its way may be lost with the connection."""
    weather = Weather()
    for event in events:
        getattr(weather, event)()
    weather.clear_up()
    assert sorted(weather.daemon.done) == [1, 2, 3, 4, 5, 6]
    assert weather.daemon.leased == set()
    assert len(weather.daemon.sent) == len(weather.sends)
    assert all(weather.answers[number].error is None for number in weather.ends | weather.sends)
