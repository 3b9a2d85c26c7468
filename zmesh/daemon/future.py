"""A value that another thread brings: as much of `concurrent.futures.Future` as the blocking client needs.

That module loads `logging` and more, a tenth of the time in which a short command starts. This module must never call
anybody back: whoever wants the value waits for it.
"""

from threading import Event
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Future(Generic[_Value]):
    """One value, or the error in its place."""

    def __init__(self) -> None:
        """Begin without either."""
        self._set = Event()
        self._value: _Value
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Say whether it is there."""
        return self._set.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long for it at most; say whether it is there."""
        return self._set.wait(seconds)

    def result(self) -> _Value:
        """Wait for the value.

        Raises:
            BaseException: The error that came in its place.
        """
        self._set.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        """Wait for the value, and return the error that came in its place, or None."""
        self._set.wait()
        return self._error

    def set_result(self, value: _Value) -> None:
        """Bring the value."""
        self._value = value
        self._set.set()

    def set_exception(self, error: BaseException) -> None:
        """Bring an error in its place."""
        self._error = error
        self._set.set()
