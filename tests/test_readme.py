"""The README keeps its word: its programs run as they stand, its links lead somewhere, its words are those of the API.

What a reader would copy is taken from the text itself, so that the two cannot differ.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from zmesh.protocol.states import Sent

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]

SECONDS = 60
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PROMISED = [
    'async with zmesh.Peer("pipeline") as peer:                # embeds a whole peer in this process',
    'code = await peer.agent("code", role="coder", capabilities=["python"])',
    'receipt = await code.send("browser@studio", {"text": "Research OAuth 2.0"}, type="command",',
    'priority="high", ttl="7d")    # returns after the local fsync',
    "await receipt.stored(timeout=10)                       # in the recipient's durable inbox",
    "await receipt.handled(timeout=60)                      # the recipient is done with it",
    'answer = await code.ask("browser@studio", {"text":',
    "timeout=60)    # a Message",
    "await message.done(reply={",
    "# answers and finishes in one transaction",
]


def program(name: str) -> str:
    """The Python block that follows the line naming it."""
    found = re.findall(rf"^`{re.escape(name)}`[^\n]*:\n\n```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{name}: {len(found)} programs"
    return str(found[0])


@contextmanager
def running(script: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A program as a reader would start it, ended when the test is."""
    environment = os.environ | {"ZMESH_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script],
        env=environment,
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("first", ["studio", "pipeline"])
def test_its_two_programs_talk_whichever_comes_first(first: str, tmp_path: Path) -> None:
    for name in ("studio", "pipeline"):
        (tmp_path / f"{name}.py").write_text(program(f"{name}.py"), encoding="utf-8")
    order = [first, *({"studio", "pipeline"} - {first})]
    scripts = [tmp_path / f"{name}.py" for name in order]
    home = tmp_path / "home"
    with running(scripts[0], home) as one, running(scripts[1], home) as other:
        pipeline, studio = (one, other) if first == "pipeline" else (other, one)
        printed, errors = pipeline.communicate(timeout=SECONDS)
        said = "looking for browser@studio\nbrowser@studio: I read the RFC.\n"
        assert (printed, errors, pipeline.returncode) == (said, "", 0)
        assert studio.stdout is not None
        heard = [studio.stdout.readline() for _ in range(2)]
        assert heard == ["code@pipeline: Research OAuth 2.0\n", "code@pipeline: And OpenID Connect?\n"]
        assert studio.poll() is None  # it goes on answering
        studio.send_signal(signal.SIGINT)
        assert studio.communicate(timeout=SECONDS) == ("", "")  # no traceback
        assert studio.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_its_program_that_asks_waits_for_the_other_and_can_be_broken_off(tmp_path: Path) -> None:
    script = tmp_path / "pipeline.py"
    # A timeout that begins before the other is there would be over at once.
    script.write_text(program("pipeline.py").replace("timeout=10", "timeout=0.001"), encoding="utf-8")
    with running(script, tmp_path / "home") as pipeline:
        assert pipeline.stdout is not None
        assert pipeline.stdout.readline() == "looking for browser@studio\n"
        with pytest.raises(subprocess.TimeoutExpired):
            pipeline.wait(0.5)
        pipeline.send_signal(signal.SIGINT)
        assert pipeline.communicate(timeout=SECONDS) == ("", "")


@pytest.mark.parametrize("line", PROMISED)
def test_it_shows_the_api_as_it_was_designed(line: str) -> None:
    assert line in README


def test_every_state_is_explained() -> None:
    table = README[README.index("| state | what was observed |") :].partition("\n\n")[0]
    explained = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)
    assert explained == ["state", *(state.name.lower() for state in sorted(Sent))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file(document: str) -> None:
    path = ROOT / document
    links = LINK.findall(path.read_text(encoding="utf-8"))
    relative = [urlsplit(link) for link in links if not urlsplit(link).scheme]
    missing = [link.path for link in relative if link.path and not (path.parent / link.path).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_within_a_document_leads_to_a_heading(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    anchors = [link[1:] for link in LINK.findall(text) if link.startswith("#")]
    assert [anchor for anchor in anchors if anchor not in headings] == []


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)\b(?= |`|\n)", README))
    assert "demo" in named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
