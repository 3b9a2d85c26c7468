"""The envelope of a message: what is known about it beside its body, packed once and stored and sent as it is.

The envelope travels as an opaque msgpack array inside DATA; the receiving store unpacks it once, checks it, and keeps
the bytes. It must never hold anything that changes on the way: remaining time and numbers belong to DATA.
"""

import re
from functools import lru_cache

import msgpack

from zmesh.protocol.address import is_name
from zmesh.protocol.bounds import ID_BYTES, MAX_ENVELOPE, MAX_NAME
from zmesh.protocol.errors import ProtocolError
from zmesh.protocol.packed import unpack_array
from zmesh.protocol.record import record

_FIELDS = 7
_MAX_ADDRESS = 2 * MAX_NAME + 1  # agent@peer
_PACK = msgpack.Packer().pack  # packb makes a Packer per call, which costs twice as much as packing
_REMEMBERED = 4096  # names and types whose check is remembered: the same few come with every message

# Controls, line separators, invisible and bidirectional marks, surrogates and tags hide or disguise what a person or a
# model reads. The list is fixed: what str.isprintable() says depends on the Unicode version of the Python that asks.
_TYPE = re.compile(
    "[^\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\uffff"
    f"\U000e0000-\U000e0fff]{{1,{MAX_NAME}}}"
)


@record
class Envelope:
    """What a message says about itself.

    Attributes:
        to: The mailbox at the receiving store.
        sender: `agent@peer`; the receiver refuses it unless the peer is the sending store's.
        type: What kind of message this is, in the users' words; at most 63 characters.
        thread: Id of the conversation (16 bytes), or empty.
        reply_to: Id of the message this one answers (16 bytes), or empty.
        sent_at: The sender's wall clock, in milliseconds since 1970; shown to people, compared with nothing.
        packed: True when the body is a msgpack value, False when it is plain bytes.
    """

    to: str
    sender: str
    type: str
    thread: bytes
    reply_to: bytes
    sent_at: int
    packed: bool

    def pack(self) -> bytes:
        """Return the bytes that are stored and sent."""
        fields = (self.to, self.sender, self.type, self.thread, self.reply_to, self.sent_at, self.packed)
        data: bytes = _PACK(fields)
        return data

    @property
    def sender_peer(self) -> str:
        """The peer named in `sender`."""
        return self.sender.partition("@")[2]


def unpack_envelope(data: bytes) -> Envelope:
    """Read and check an envelope.

    Raises:
        ProtocolError: `bad-envelope`, with what is wrong.
    """
    if len(data) > MAX_ENVELOPE:
        raise _bad(f"{len(data)} bytes, more than {MAX_ENVELOPE}")
    try:
        fields = unpack_array(data)
    except ValueError as error:
        raise _bad(f"not one msgpack array: {error}") from None
    if len(fields) < _FIELDS:
        raise _bad(f"not an array of {_FIELDS} fields")
    to, sender, kind, thread, reply_to, sent_at, packed = fields[:_FIELDS]
    if not is_name(to):
        raise _bad("the recipient is no mailbox name")
    if not isinstance(sender, str) or len(sender) > _MAX_ADDRESS or not _is_full_address(sender):
        raise _bad("the sender is not agent@peer")
    if not is_type(kind):
        raise _bad(f"the type is not a text of 1 to {MAX_NAME} visible characters")
    if not _is_id_or_empty(thread) or not _is_id_or_empty(reply_to):
        raise _bad(f"thread or reply_to is not an id of {ID_BYTES} bytes")
    if type(sent_at) is not int or not 0 <= sent_at < 1 << 63:
        raise _bad("sent_at is not a time in milliseconds")
    if type(packed) is not bool:
        raise _bad("the body's form is not given")
    return Envelope(to, sender, kind, thread, reply_to, sent_at, packed)


def is_type(text: object) -> bool:
    """Say whether `text` can be a message type: 1 to 63 visible characters or spaces."""
    return isinstance(text, str) and len(text) <= MAX_NAME and _matches_type(text)


@lru_cache(_REMEMBERED)
def _matches_type(text: str) -> bool:
    return _TYPE.fullmatch(text) is not None


@lru_cache(_REMEMBERED)
def _is_full_address(text: str) -> bool:
    agent, _, peer = text.partition("@")
    return is_name(agent) and is_name(peer)


def _is_id_or_empty(value: object) -> bool:
    return isinstance(value, bytes) and len(value) in (0, ID_BYTES)


def _bad(text: str) -> ProtocolError:
    return ProtocolError("bad-envelope", text)
