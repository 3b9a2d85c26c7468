"""Why an inviter lets nobody in: one word on the wire, and what it means in the joiner's own words.

The one who refuses is a stranger until the pairing is done, so the text that a person reads is never its text. This
module must never let anything else of what came through.
"""

from typing import Final

from zmesh.errors import PairingError

REASONS: Final = {
    "over": "that machine has no such invitation: it has expired, was used or withdrawn. Ask for a new one there; "
    "if this machine used it and was interrupted, joining again is safe",
    "gone": "the command that made this invitation has ended there, so it is over. Ask for a new one there",
    "tries": "that code was tried too often with wrong words, and is void. Ask for a new one there",
    "code": "the code is not the right one, or somebody sits between the two machines and guesses. Look at the code "
    "again; if it is right, ask for a new one",
    "name": "another member is called like this machine: choose another name with --name. If that was this machine "
    "before it was set up anew: zmesh trust revoke NAME there shuts out what it was",
    "revoked": "this device was revoked there, which is for good. To begin anew, move device.key out of its "
    "ZMESH_HOME and join again",
    "stale": "this device was in that mesh before, by another inviter who is no member any more. To begin anew, move "
    "device.key out of its ZMESH_HOME and join again",
    "self": "this is the very device that made the invitation: type the code on the other machine",
    "full": "that mesh has as many members as it can have",
    "version": "the two machines pair in different versions: upgrade zmesh on the older one",
    "entries": "that machine does not believe what it was shown: this device is no member of its mesh",
    "stranger": "that machine does not know this device: pair the two with `zmesh invite` and `zmesh join`",
    "closed": "that machine answers no questions at its door: its discovery (config.toml) leaves static out",
    "trouble": "that machine could not do it: see what it says there",
}


class Refusal(PairingError):  # noqa: N818 - names the outcome
    """A refusal that is told to the other side.

    Attributes:
        reason: One of `REASONS`.
    """

    def __init__(self, reason: str) -> None:
        """Say it in the words of this machine; a reason that is not known is some trouble."""
        self.reason = reason if reason in REASONS else "trouble"
        super().__init__(REASONS[self.reason])
