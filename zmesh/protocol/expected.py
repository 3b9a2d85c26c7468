"""Who waits for which answer: it comes past the queue, once.

A second answer to one question goes the way of all messages. This module must never keep anything of a question that
nobody asks any more.
"""

NOBODY = 0


class Expected:
    """The open questions of all holders."""

    def __init__(self) -> None:
        """Begin with none."""
        self._askers: dict[bytes, int] = {}  # holder by question; NOBODY once it was answered
        self._found: dict[int, bytes] = {}  # question by the row of an answer that was there before it was expected

    def add(self, holder: int, question: bytes) -> None:
        """The holder waits for the answer to a message."""
        self._askers[question] = holder

    def remove(self, question: bytes) -> None:
        """Nobody waits for it any more."""
        self._askers.pop(question, None)
        for row in [row for row, of in self._found.items() if of == question]:
            del self._found[row]

    def asker(self, question: bytes) -> int:
        """Return the holder that waits for the answer to a message, or NOBODY."""
        return self._askers.get(question, NOBODY)

    def take(self, question: bytes) -> None:
        """The answer has come: further ones are no answers."""
        self._askers[question] = NOBODY

    def give_back(self, holder: int, question: bytes) -> None:
        """It came to nothing: the holder waits still, unless it has given up."""
        if question in self._askers:
            self._askers[question] = holder

    @property
    def found(self) -> tuple[int, ...]:
        """Rows of answers that were there before they were expected."""
        return tuple(self._found)

    def find(self, row: int, question: bytes) -> None:
        """The message of that row answers the question; it was there already."""
        self._found[row] = question

    def finder(self, row: int) -> int:
        """Return the holder that waits for the message of that row, or NOBODY."""
        return self.asker(self._found[row]) if row in self._found else NOBODY

    def taken(self, row: int) -> None:
        """The message of that row is leased."""
        question = self._found.pop(row, None)
        if question is not None:
            self.take(question)
