"""The protocol's own error."""

import pytest

from zmesh.errors import MeshError
from zmesh.protocol.errors import ProtocolError


def test_code_and_text_are_kept_and_shown() -> None:
    with pytest.raises(ProtocolError, match=r"^bad-magic: this is not a zmesh frame$") as caught:
        raise ProtocolError("bad-magic", "this is not a zmesh frame")
    assert (caught.value.code, caught.value.text) == ("bad-magic", "this is not a zmesh frame")


def test_it_is_no_error_for_users_and_no_value_error() -> None:
    assert not issubclass(ProtocolError, (MeshError, ValueError))
