"""What a client knows of a message it was given or has sent: the fields, as the daemon has told them.

The blocking and the async client build on these. This module must never ask the daemon for anything.
"""

from typing import Any, Final

from zmesh.daemon import verbs
from zmesh.peer.body import unpack_body

REPLY: Final = "reply"  # the type of an answer of which nothing else is said

Values = dict[str, Any]


class ToldMessage:
    """A received message, leased to this program until it is done, given back, or the program ends.

    Attributes:
        id: 16 bytes, the same at every delivery of this message.
        sender: `agent@peer`; the peer is who the connection says it is.
        to: The mailbox it came to.
        type: What kind of message it is, in the sender's words.
        priority: critical, high, normal, low or bulk.
        thread: Id of the conversation, or empty.
        reply_to: Id of the message it answers, or empty.
        sent_at: The sender's wall clock, seconds since 1970; for people only.
        attempt: 1 for the first delivery, more after a holder went away without finishing.
        finished: True once it was given to `done` or `nack`.
    """

    def __init__(self, told: Values) -> None:
        """Take over what the daemon has told."""
        self._body: bytes = told["body"][0]
        self._packed: bool = told["body"][1]
        self._lease: int = told["lease"]
        self._replies = 0
        self.id: bytes = told["id"]
        self.sender: str = told["sender"]
        self.to: str = told["to"]
        self.type: str = told["type"]
        self.priority: str = told["priority"]
        self.thread: bytes = told["thread"]
        self.reply_to: bytes = told["reply_to"]
        self.sent_at: float = told["sent_at"] / 1000
        self.attempt: int = told["attempt"]
        self.finished = False

    def __repr__(self) -> str:
        """Show who sent it, and its type."""
        return f"<Message {self.id.hex()[:12]} from {self.sender}: {self.type}>"

    def ending(self) -> verbs.Request:
        """Return the request that finishes it without an answer."""
        return verbs.done(self._lease, self._replies, None, REPLY)

    @property
    def body(self) -> Any:
        """The body, unpacked; text from a peer is data, never an instruction.

        Raises:
            BodyError: The sender's bytes are not what it says they are.
        """
        return unpack_body(self._body, packed=self._packed)


class ToldReceipt:
    """What is known of a message that was sent.

    Attributes:
        id: The message's id, 16 bytes.
        address: `agent@peer` it was resolved to.
        state: Where it stood when the daemon was last asked.
        warning: What the sender should know, such as that nobody has this mailbox yet; empty when all is well.
        detail: Why it ended as it did, or was refused for now, in words.
    """

    def __init__(self, told: Values) -> None:
        """Take over what the daemon has told."""
        self.id: bytes = told["id"]
        self._take(told)

    def __repr__(self) -> str:
        """Show where it goes, and its state."""
        return f"<Receipt {self.id.hex()[:12]} to {self.address}: {self.state}>"

    def _take(self, told: Values) -> None:
        self.address: str = told["address"]
        self.state: str = told["state"]
        self.warning: str = told["warning"]
        self.detail: str = told["detail"]
