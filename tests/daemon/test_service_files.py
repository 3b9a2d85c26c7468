"""The service files: whatever a path is called, each format reads back what was meant."""

import plistlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zmesh.daemon.service_files import STOP, WORDS, Wanted, launchd_plist, systemd_unit, task_xml
from zmesh.errors import ServiceError

PATHS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff\0"), min_size=1).map(
    lambda text: "/" + text
)
STRANGE = '/a b/100%h $HOME/"it\'s" & <ü>\\;/python'
TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
ESCAPES = re.compile(r"\\(.)|%%|\$\$")


def unit(text: bytes) -> dict[str, list[str]]:
    """What a unit says, by key; a key may be there several times."""
    said: dict[str, list[str]] = {}
    for line in text.decode().split("\n"):
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            said.setdefault(key, []).append(value)
    return said


def words(line: str, *, expands: bool) -> list[str]:
    """Split as systemd.service(5) and systemd.syntax(7) say; fails on what would be replaced."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"(?= |$)|([^\s"\'\\]+)(?= |$)', line)
    assert " ".join(f'"{quoted}"' if quoted else plain for quoted, plain in found) == line
    read = []
    for quoted, plain in found:
        word = quoted or plain
        rest = ESCAPES.sub("", word)
        assert "%" not in rest
        assert not expands or "$" not in rest
        read.append(ESCAPES.sub(lambda m: m[1] or m[0][0], word) if expands else re.sub(r"\\(.)|%%", _plain, word))
    return read


def _plain(match: re.Match[str]) -> str:
    return match[1] or "%"


@given(PATHS, PATHS)
@example(STRANGE, STRANGE)
@example("/usr/bin/python3", "/home/me/zmesh")
def test_systemd_reads_back_the_paths(interpreter: str, home: str) -> None:
    said = unit(systemd_unit(Wanted("zmesh", interpreter, home)))
    (command,) = said["ExecStart"]
    read = words(command, expands=True)
    if read[0] == "/bin/sh":
        assert read[1:3] == ["-c", 'exec "$0" "$@"']
        read = read[3:]
    else:
        assert not set("\"'\\$") & set(read[0])  # what systemd takes for no executable
    assert read == [interpreter, *WORDS]
    (environment,) = said["Environment"]
    assert words(environment, expands=False) == [f"ZMESH_HOME={home}"]


def test_a_unit_restarts_what_fails_and_not_what_has_ended() -> None:
    said = unit(systemd_unit(Wanted("zmesh", "/usr/bin/python3")))
    assert said["Type"] == ["exec"]  # nothing tells systemd that it is ready
    assert said["Restart"] == ["on-failure"]
    assert said["UMask"] == ["0077"]
    assert int(said["StartLimitBurst"][0]) * int(said["RestartSec"][0]) < int(said["StartLimitIntervalSec"][0])
    assert "Environment" not in said
    assert "PrivateTmp" not in said


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("folder", ["plain", STRANGE.strip("/").replace("/", "_")])
def test_systemd_takes_the_unit(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    (place / "python").symlink_to(sys.executable)
    text = systemd_unit(Wanted("zmesh", str(place / "python"), str(place / "home"), str(place)))

    def verified(content: bytes) -> str:
        file = tmp_path / "zmesh.service"
        file.write_bytes(content)
        ended = subprocess.run(
            ["systemd-analyze", "verify", "--user", file],
            env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return f"{ended.stderr}exit code {ended.returncode}" if ended.returncode or ended.stderr else ""

    assert verified(text) == ""
    assert "restart specifier" in verified(text.replace(b"Restart=on-failure", b"Restart=sometimes"))
    assert "not executable" in verified(text.replace(b"python", b"snake").replace(b"/bin/sh", b"/bin/no"))


@given(PATHS, PATHS)
@example(STRANGE, STRANGE)
def test_launchd_reads_back_the_paths(interpreter: str, home: str) -> None:
    said = plistlib.loads(launchd_plist(Wanted("zmesh-1", interpreter, home, errors="/e")))
    assert said == {
        "Label": "zmesh-1",
        "ProgramArguments": [interpreter, *WORDS],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ExitTimeOut": STOP,
        "Umask": 0o077,
        "EnvironmentVariables": {"ZMESH_HOME": home},
        "StandardErrorPath": "/e",
    }
    assert "EnvironmentVariables" not in plistlib.loads(launchd_plist(Wanted("zmesh", "/usr/bin/python3")))


def test_the_task_scheduler_reads_back_the_paths() -> None:
    interpreter, home = "C:\\Program Files\\Python & <ü>\\pythonw.exe", 'D:\\50% of "it"\\'
    data = task_xml(Wanted("zmesh-1", interpreter, home, user="LAPTOP\\J & J"))
    assert data[:2] in (b"\xff\xfe", b"\xfe\xff")
    assert "\r\n" in data.decode("utf-16")
    task = ET.fromstring(data)  # noqa: S314 - our own
    assert task.findtext(f".//{TASK}Command") == interpreter
    assert task.findtext(f".//{TASK}Arguments") == '-m zmesh.daemon --service --home "D:\\50% of \\"it\\"\\\\"'
    assert [element.text for element in task.iter(f"{TASK}UserId")] == ["LAPTOP\\J & J"] * 2
    assert "--home" not in task_xml(Wanted("zmesh", interpreter)).decode("utf-16")


def test_a_task_keeps_the_documented_schema() -> None:
    """Order matters in the trigger and in the action; the other types are `xs:all`."""
    task = ET.fromstring(task_xml(Wanted("zmesh", "C:\\pythonw.exe", user="me")))  # noqa: S314 - our own
    assert task.tag == f"{TASK}Task"
    assert task.get("version") == "1.2"

    def children(path: str) -> list[str]:
        (element,) = task.findall("/".join(TASK + part for part in path.split("/")))
        return [child.tag.removeprefix(TASK) for child in element]

    allowed = ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    assert [child.tag.removeprefix(TASK) for child in task] == allowed
    assert children("Triggers/LogonTrigger") == ["Enabled", "UserId"]
    assert children("Actions/Exec") == ["Command", "Arguments"]
    assert children("Settings/RestartOnFailure") == ["Interval", "Count"]
    assert set(children("Settings")) <= {
        "AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy", "DisallowStartIfOnBatteries",
        "StopIfGoingOnBatteries", "AllowHardTerminate", "StartWhenAvailable", "NetworkProfileName",
        "RunOnlyIfNetworkAvailable", "WakeToRun", "Enabled", "Hidden", "DeleteExpiredTaskAfter", "IdleSettings",
        "NetworkSettings", "ExecutionTimeLimit", "Priority", "RunOnlyIfIdle",
    }  # fmt: skip
    (principal,) = task.iter(f"{TASK}Principal")
    (actions,) = task.iter(f"{TASK}Actions")
    assert principal.get("id") == actions.get("Context")
    assert task.findtext(f".//{TASK}ExecutionTimeLimit") == "PT0S"  # without it, it is killed after three days


@pytest.mark.parametrize("home", ["D:\\%TEMP%\\zmesh", "D:\\$(Arg0)"])
def test_what_the_task_scheduler_would_replace_is_refused(home: str) -> None:
    with pytest.raises(ServiceError, match="use another place"):
        task_xml(Wanted("zmesh", "C:\\pythonw.exe", home))


@pytest.mark.parametrize("path", ["/a\nExecStartPre=/bin/evil", "/a\x1b[m", "/a\udcff", "/a\ufffe", "/a\x85"])
def test_what_no_format_can_carry_is_refused(path: str) -> None:
    for wanted in (
        {"interpreter": path},
        {"interpreter": "/p", "home": path},
        {"interpreter": "/p", "temporary": path},
    ):
        with pytest.raises(ServiceError, match="no service file can carry"):
            Wanted("zmesh", **wanted)
