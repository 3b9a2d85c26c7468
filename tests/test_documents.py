"""The documents: every test they name as a witness is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
WITNESS = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_test_that_is_named_is_there(document: Path) -> None:
    for path, name in WITNESS.findall(document.read_text(encoding="utf-8")):
        file = ROOT / path
        assert file.is_file(), f"{document.name} names {path}"
        assert not name or f"def {name}(" in file.read_text(encoding="utf-8"), f"{document.name} names {path}::{name}"


def test_there_are_witnesses_to_look_for() -> None:
    assert sum(len(WITNESS.findall(document.read_text(encoding="utf-8"))) for document in DOCUMENTS) > 20
