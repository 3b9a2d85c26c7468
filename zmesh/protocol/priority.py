"""The five priority classes, each with a stream of its own."""

from enum import IntEnum


class Priority(IntEnum):
    """The class of a message: the smaller the number, the more urgent."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3
    BULK = 4

    @classmethod
    def parse(cls, text: str) -> "Priority":
        """Read a class from its lower-case name.

        Raises:
            ValueError: The name is none of the five.
        """
        try:
            return _BY_NAME[text if text in _BY_NAME else text.lower()]
        except KeyError:
            names = ", ".join(p.name.lower() for p in cls)
            message = f"no priority is called {text!r}; choose one of {names}"
            raise ValueError(message) from None


_BY_NAME = {priority.name.lower(): priority for priority in Priority}
