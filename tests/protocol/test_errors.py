"""The protocol's own error, and the codes that the specification lists."""

import re
from pathlib import Path

import pytest

import zmesh.protocol
from zmesh.errors import MeshError
from zmesh.protocol.errors import ProtocolError

SOURCES = Path(zmesh.protocol.__file__).parent
SPECIFICATION = SOURCES.parents[1] / "docs" / "PROTOCOL.md"


def test_code_and_text_are_kept_and_shown() -> None:
    with pytest.raises(ProtocolError, match=r"^bad-magic: this is not a zmesh frame$") as caught:
        raise ProtocolError("bad-magic", "this is not a zmesh frame")
    assert (caught.value.code, caught.value.text) == ("bad-magic", "this is not a zmesh frame")


def test_it_is_no_error_for_users_and_no_value_error() -> None:
    assert not issubclass(ProtocolError, (MeshError, ValueError))


def test_the_specification_lists_every_code_that_is_raised() -> None:
    raised = {
        code
        for source in SOURCES.glob("*.py")
        for code in re.findall(r'ProtocolError\(\s*"([^"]+)"', source.read_text(encoding="utf-8"))
    }
    listed = set(re.findall(r"^\| `([a-z-]+)` \| \w", SPECIFICATION.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"bad-parts", "bad-envelope"} <= raised
    assert raised <= listed
