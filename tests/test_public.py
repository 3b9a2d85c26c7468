"""What is public: the names the documents promise, and words on each of them."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zmesh
from zmesh import errors

ROOT = Path(__file__).resolve().parent.parent

CLASSES = frozenset({"Agent", "AgentInfo", "AsyncClient", "Client", "Message", "Peer", "PeerInfo", "Receipt"})
FUNCTIONS = frozenset({"connect", "connect_async"})
ALIASES = frozenset({"PriorityName", "StatusName"})
"""Names for use in annotations."""
_OF_A_CLIENT = {
    "ask",
    "close",
    "inbox",
    "keep",
    "listen",
    "on",
    "poll",
    "receipt",
    "report",
    "send",
    "status",
    "take",
    "wait_for",
}
VERBS = {
    "Agent": {"ask", "detach", "inbox", "keep", "poll", "receipt", "send", "status"},
    "AgentInfo": set[str](),
    "AsyncClient": _OF_A_CLIENT | {"start"},
    "Client": _OF_A_CLIENT,
    "Message": {"done", "nack", "reply"},
    "Peer": {"agent", "agents", "allows", "close", "peers", "start", "wait_for"},
    "PeerInfo": set[str](),
    "Receipt": {"cancel", "handled", "stored"},
}
"""What the README and the examples are written with; more may be there, less may not."""


def error_names() -> set[str]:
    """Every error that zmesh raises on purpose."""
    return {name for name, value in vars(errors).items() if isinstance(value, type)}


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class, or one of ours that it is made from, defines."""
    ours = [owner for owner in getattr(kind, "__mro__", ()) if owner.__module__.startswith("zmesh.")]
    for name, value in (item for owner in ours for item in vars(owner).items()):
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod)):
            yield name, value


def test_exactly_the_classes_and_every_error_are_public() -> None:
    assert set(zmesh.__all__) == CLASSES | FUNCTIONS | ALIASES | error_names()
    assert sorted(set(zmesh.__all__)) == list(zmesh.__all__)


def test_the_module_shows_its_public_names_and_no_others() -> None:
    zmesh.Peer  # noqa: B018 - its first use must not bring in more
    assert {name for name in dir(zmesh) if not name.startswith("__")} == set(zmesh.__all__)


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_an_annotation_can_be_had(name: str) -> None:
    assert getattr(zmesh, name) is getattr(zmesh, name)


@pytest.mark.parametrize("name", sorted(set(zmesh.__all__) - ALIASES))
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(zmesh, name)
    assert isinstance(value, type) is (name not in FUNCTIONS)
    assert value.__name__ == name
    assert getattr(zmesh, name) is value
    assert name in dir(zmesh)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'zmesh' has no attribute 'Broker'"):
        _ = zmesh.Broker
    assert not hasattr(zmesh, "__path_to_nowhere__")
    assert re.fullmatch(r"\d+\.\d+\.\d+", zmesh.__version__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert f"\nversion = {zmesh.__version__}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(zmesh.__all__) - ALIASES))
def test_every_public_class_and_method_says_what_it_is(name: str) -> None:
    kind = getattr(zmesh, name)
    assert name in FUNCTIONS or "__doc__" in vars(kind)
    assert kind.__doc__.strip()
    silent = [member for member, value in members(kind) if not (inspect.getdoc(value) or "").strip()]
    assert silent == []


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_verbs_are_there(name: str) -> None:
    kind = getattr(zmesh, name)
    assert VERBS[name] <= {member for member, _ in members(kind)}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_parameter_of_a_public_method_has_a_type(name: str) -> None:
    for member, value in members(getattr(zmesh, name)):
        function: Any = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        signature = inspect.signature(function)
        untyped = [p.name for p in signature.parameters.values() if p.name != "self" and p.annotation is p.empty]
        assert untyped == [], member
        assert signature.return_annotation is not signature.empty, member


@pytest.mark.parametrize("name", sorted(error_names() - {"MeshError"}))
def test_every_error_is_a_mesh_error(name: str) -> None:
    assert issubclass(getattr(zmesh, name), zmesh.MeshError)


def test_a_wait_that_ended_is_also_the_timeout_that_python_knows() -> None:
    assert issubclass(zmesh.WaitTimeout, TimeoutError)
    assert issubclass(zmesh.StoreFull, zmesh.StoreError)


def test_an_unknown_message_is_a_key_that_is_not_there_and_the_wrong_loop_an_error_at_run_time() -> None:
    assert issubclass(zmesh.UnknownMessage, KeyError)
    assert str(zmesh.UnknownMessage("no message 00")) == "no message 00"  # a KeyError's text is in quotes
    assert issubclass(zmesh.WrongLoop, RuntimeError)


def test_documents_name_only_what_is_public() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "examples").glob("*.py"))):
        named = set(re.findall(r"\bzmesh\.([A-Z]\w+)", path.read_text(encoding="utf-8")))
        assert named <= set(zmesh.__all__), path.name


def test_errors_that_the_readme_lists_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("### When something is wrong") :].partition("\n## ")[0]
    listed = set(re.findall(r"`([A-Z][a-z]\w+?)`", section))
    assert {"PeerRunning", "StoreFull"} <= listed
    assert listed <= error_names() | {"TypeError", "ValueError"}


def test_the_parameters_that_docstrings_explain_are_those_that_there_are() -> None:
    for name in sorted(CLASSES):
        for member, value in members(getattr(zmesh, name)):
            if not inspect.isfunction(value):
                continue
            explained = re.search(r"^Args:\n((?:    .*\n?)+)", inspect.getdoc(value) or "", re.MULTILINE)
            if explained is None:
                continue
            words = set(re.findall(r"^    (\w+):", explained[1], re.MULTILINE))
            assert words == set(inspect.signature(value).parameters) - {"self"}, f"{name}.{member}"


def test_importing_is_all_that_the_front_page_does() -> None:
    tree = ast.parse((ROOT / "zmesh" / "__init__.py").read_text(encoding="utf-8"))
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert set(called) <= {"import_module", "getattr", "globals", "sorted", "AttributeError"}
