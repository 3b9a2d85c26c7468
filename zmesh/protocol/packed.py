"""Reads one msgpack array from octets that may be hostile: a header, or an envelope.

It knows nothing of what the entries mean. Whatever the octets are, it must never raise anything but `ValueError`, nor
allocate more than a small multiple of them: one octet can ask for an empty container, five for a list of millions.
"""

from typing import Any, NoReturn

import msgpack

from zmesh.protocol.bounds import MAX_ARRAY, MAX_ARRAYS, MAX_DEPTH


def unpack_array(data: bytes | memoryview) -> list[Any]:
    """Read an array that holds neither maps nor extension types.

    Raises:
        ValueError: The octets are no such array within the bounds, and nothing else.
    """
    # Every array takes an octet at least: short data needs no counting.
    counter = _counter() if len(data) > MAX_ARRAYS else None
    try:
        fields = msgpack.unpackb(
            data,
            max_array_len=MAX_ARRAY,
            max_ext_len=0,
            list_hook=counter,
            object_pairs_hook=_refuse_map,
            ext_hook=_refuse_extension,
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if not isinstance(fields, list):
        raise ValueError("it is not an array")  # noqa: TRY004 - what arrived is wrong, not our argument
    for entry in fields:
        if type(entry) is list:
            _check_depth(fields)
            break
    return fields


def _check_depth(fields: list[Any]) -> None:
    level = [fields]
    for _ in range(MAX_DEPTH):
        level = [entry for array in level for entry in array if type(entry) is list]
        if not level:
            return
    raise ValueError("arrays are nested too deep")


def _counter() -> Any:
    room = MAX_ARRAYS

    def count(array: list[Any]) -> list[Any]:
        nonlocal room
        room -= 1
        if room < 0:
            raise ValueError("too many arrays")
        return array

    return count


def _refuse_map(_: object) -> NoReturn:
    raise ValueError("it holds a map")


def _refuse_extension(_code: int, _data: bytes) -> NoReturn:
    raise ValueError("it holds an extension type")
