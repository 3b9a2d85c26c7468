"""The protocol's own error: what a peer sent breaks the specification.

It never leaves zmesh as an exception: the core turns it into a dropped frame or a closed link, with a line in the log.
"""


class ProtocolError(Exception):
    """A frame, or a claim in it, that the specification forbids.

    Attributes:
        code: A short machine-readable name, such as `bad-magic`; the names are listed in docs/PROTOCOL.md.
        text: One sentence for people.
    """

    def __init__(self, code: str, text: str) -> None:
        """Keep code and text; the message of the exception is both."""
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
