"""docs/CLI.md is what the commands say of themselves."""

from pathlib import Path

import pytest

from zmesh.cli.main import COMMANDS
from zmesh.cli.reference import pages

DOCUMENT = Path(__file__).parents[2] / "docs" / "CLI.md"


def test_the_reference_is_up_to_date() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == "\n".join(pages()), "python -m zmesh.cli.reference > docs/CLI.md"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_in_it(name: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"\n### zmesh {name}\n" in text
    assert f"\nzmesh {name} " in text


def test_commands_within_commands_are_in_it_with_their_options() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "\n#### zmesh trust revoke\n" in text
    assert "| `--reply-to ID` | The message it answers. |" in text
    assert '\n    zmesh send --as ann bob "hello"\n' not in text  # that is for `zmesh --help`
