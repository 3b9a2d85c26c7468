"""The shape of the project: what the wheel holds, where mypy looks, which way imports point, what `import zmesh` loads.

The import rules read the source and never run it, so a rule is broken by an import that no test happens to execute.
"""

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import ENOUGH

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = ROOT / "adapters"
BUILD_INPUTS = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "zmesh", "adapters")

# Bottom to top: a layer imports itself and those before it.
LAYERS = ("protocol", "rooms", "trust", "discovery", "peer", "daemon", "cli")
PURE_LAYERS = ("protocol", "rooms")
IMPURE_MODULES = frozenset(
    ("asyncio", "datetime", "os", "random", "secrets", "socket", "sqlite3", "threading", "time", "uuid", "zmq")
)
TERMINAL_MODULES = frozenset(("click", "rich"))
HEAVY_MODULES = ("asyncio", "click", "nacl", "rich", "sqlite3", "zeroconf", "zmq")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must be a success."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=ENOUGH,
    )
    assert ended.returncode == 0, f"{' '.join(str(part) for part in command)}\n{ended.stdout}{ended.stderr}"
    return ended


def package_folders() -> dict[str, Path]:
    """Every package in the tree, by its import name."""
    tops = [ROOT / "zmesh", *(path.parent for path in sorted(ADAPTERS.glob("*/*/__init__.py")))]
    return {
        ".".join(init.parent.relative_to(top.parent).parts): init.parent
        for top in tops
        for init in sorted(top.rglob("__init__.py"))
    }


def setup_cfg() -> configparser.ConfigParser:
    """The package's metadata."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def mypy_settings() -> dict[str, list[str]]:
    """What mypy is told: the files it checks and the folders where it looks for packages."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    return {
        "files": settings["files"],
        "mypy_path": settings["mypy_path"].replace("$MYPY_CONFIG_FILE_DIR/", "").split(":"),
    }


# --- what is installed ---


def test_setup_cfg_names_every_package() -> None:
    named = setup_cfg()["options"]["packages"].split()
    assert sorted(named) == sorted(package_folders())


def test_setup_cfg_and_mypy_agree_on_the_folders_of_the_adapters() -> None:
    lines = setup_cfg()["options"]["package_dir"].strip().splitlines()
    mapped = dict(line.replace(" ", "").split("=") for line in lines)
    tops = {name: folder for name, folder in package_folders().items() if "." not in name and name != "zmesh"}
    assert mapped == {name: folder.relative_to(ROOT).as_posix() for name, folder in tops.items()}
    assert sorted(mypy_settings()["mypy_path"]) == sorted(str(Path(folder).parent) for folder in mapped.values())


def test_mypy_checks_every_folder_with_code() -> None:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    with_code = {path.name for path in folders if path.name not in ("build", "dist") and any(path.rglob("*.py"))}
    assert with_code == set(mypy_settings()["files"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in BUILD_INPUTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        elif source.exists():
            shutil.copy(source, tree)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tree / "dist", tree)
    (built,) = (tree / "dist").glob("zmesh_agents-*.whl")
    return built


def test_the_wheel_holds_every_module_and_marks_them_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    folders = package_folders()
    expected = {
        f"{name.replace('.', '/')}/{module.name}" for name, folder in folders.items() for module in folder.glob("*.py")
    }
    expected |= {f"{name}/py.typed" for name in folders if "." not in name}
    assert {"zmesh/py.typed", "zmesh_browser/__init__.py", "zmesh_desktop/__init__.py"} <= expected
    assert sorted(expected - held) == []
    assert not [name for name in held if name.startswith(("tests/", "adapters/"))]


def test_the_installed_wheel_imports_from_where_it_was_installed(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel)
    packages = ("zmesh", "zmesh_browser", "zmesh_desktop")
    script = f"import {', '.join(packages)}\nfor m in ({', '.join(packages)}): print(m.__file__)"
    printed = run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(site)).stdout.split()
    assert printed == [str(site / name / "__init__.py") for name in packages]


def test_mypy_finds_the_packages_in_their_folders(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import zmesh\nimport zmesh_browser\nimport zmesh_desktop\n")
    settings = (
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        tmp_path / "cache",
        "--follow-imports",
        "silent",
    )
    log = run(sys.executable, "-m", "mypy", *settings, "--verbose", program).stderr
    for name in ("zmesh", "zmesh_browser", "zmesh_desktop"):
        init = package_folders()[name] / "__init__.py"
        parsed = [line.split()[2] for line in log.splitlines() if "Parsing " in line and line.endswith(f"({name})")]
        assert [(ROOT / path).resolve() for path in parsed] == [init], name


def test_importing_zmesh_is_light() -> None:
    script = "import sys; before = set(sys.modules); import zmesh; print(*set(sys.modules) - before)"
    loaded = set(run(sys.executable, "-c", script).stdout.split())
    assert "zmesh" in loaded
    assert sorted(loaded.intersection(HEAVY_MODULES)) == []


# --- which way imports point ---


def public_names() -> frozenset[str]:
    """The names in `zmesh.__all__`."""
    return frozenset(run(sys.executable, "-c", "import zmesh; print(*zmesh.__all__)").stdout.split())


def own_modules() -> dict[str, Path]:
    """Every module of zmesh, by its import name; a package is its `__init__`."""
    modules = {}
    for path in sorted((ROOT / "zmesh").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imported(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[str, str]]:
    """Each imported module with the name taken out of it, which is empty for a plain import.

    Imports inside functions and under TYPE_CHECKING count: a layer that names one above it knows of it.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")
                base = parts[: len(parts) - node.level + is_package]
                origin = ".".join([*base, origin] if origin else base)
            yield from ((origin, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, ""


def layer_of(module: str) -> str:
    """The second part of a name below zmesh: a layer, `errors`, `__main__`, or nothing for zmesh itself."""
    return module.split(".")[1] if "." in module else ""


def layer_fault(layer: str, module: str, name: str) -> str:
    """Why a module of this layer must not import that one, or nothing."""
    top = module.split(".", maxsplit=1)[0]
    if top in IMPURE_MODULES and layer in PURE_LAYERS:
        return f"{layer} is pure and imports {top}"
    if top in TERMINAL_MODULES and layer not in ("cli", "__main__"):
        return f"{layer or 'zmesh'} imports {top}, which is for zmesh.cli"
    if top in adapter_names():
        return f"{layer or 'zmesh'} imports the adapter {top}"
    if top != "zmesh":
        return ""
    target = layer_of(module) or (name if name in LAYERS or name == "errors" else "")
    if target == "errors" and layer != "errors":
        return ""
    allowed = {
        "": ("peer", "daemon"),  # the public names, loaded when first used
        "__main__": ("cli",),
        "errors": (),
        "cli": ("", *LAYERS),
        "daemon": ("", *LAYERS[: LAYERS.index("daemon") + 1]),
    }.get(layer)
    if allowed is None:
        allowed = LAYERS[: LAYERS.index(layer) + 1]
    return "" if target in allowed else f"{layer or 'zmesh'} imports {f'zmesh.{target}' if target else 'zmesh itself'}"


def layer_faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """The imports of a module of zmesh that do not point down."""
    layer = layer_of(module)
    if layer not in (*LAYERS, "", "errors", "__main__"):
        return [f"{module} is in no layer"]
    found = imported(ast.parse(source), module, is_package=is_package)
    return [fault for origin, name in found if (fault := layer_fault(layer, origin, name))]


def adapter_faults(source: str, public: frozenset[str]) -> list[str]:
    """The uses an adapter makes of zmesh beyond its public names."""
    tree = ast.parse(source)
    faults = []
    for origin, name in imported(tree, "adapter", is_package=True):
        if origin.startswith("zmesh.") or (origin == "zmesh" and name and name not in public):
            faults.append(f"an adapter imports {origin}{name and f'.{name}'}")
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="zmesh"), attr=name) if name not in public:
                faults.append(f"an adapter uses zmesh.{name}")
            case _:
                pass
    return faults


def adapter_names() -> list[str]:
    """The import names of the adapters."""
    return [name for name in package_folders() if "." not in name and name != "zmesh"]


@pytest.mark.parametrize("module", own_modules())
def test_imports_point_down(module: str) -> None:
    path = own_modules()[module]
    assert layer_faults(path.read_text(), module, is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("adapter", adapter_names())
def test_adapters_use_only_public_names(adapter: str) -> None:
    public = public_names()
    faults = {path: adapter_faults(path.read_text(), public) for path in package_folders()[adapter].rglob("*.py")}
    assert faults
    assert {path: found for path, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("zmesh.protocol.wire", "import time"),
        ("zmesh.protocol.wire", "from os.path import join"),
        ("zmesh.protocol.wire", "from ..rooms import log"),
        ("zmesh.protocol.wire", "from .. import rooms"),
        ("zmesh.protocol.wire", "from zmesh import Peer"),
        ("zmesh.protocol.wire", "import zmesh"),
        ("zmesh.rooms.log", "def now():\n    import datetime"),
        ("zmesh.rooms.log", "from zmesh.trust import keys"),
        ("zmesh.trust.keys", "import zmesh.discovery.mdns"),
        (
            "zmesh.discovery.mdns",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zmesh.peer import Peer",
        ),
        ("zmesh.peer.store", "from zmesh import daemon"),
        ("zmesh.peer.store", "import importlib\nimportlib.import_module('zmesh.cli.main')"),
        ("zmesh.peer.store", "from rich.console import Console"),
        ("zmesh.daemon.server", "import click"),
        ("zmesh.daemon.server", "from zmesh.cli import main"),
        ("zmesh.cli.main", "import zmesh_browser"),
        ("zmesh.errors", "from zmesh.protocol import bounds"),
        ("zmesh.errors", "from . import errors"),
        ("zmesh", "from zmesh.cli import main"),
        ("zmesh.extras", "import sys"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, source: str) -> None:
    assert len(layer_faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source", "is_package"),
    [
        ("zmesh.protocol", "from .wire import decode", True),
        ("zmesh.protocol.wire", "import struct\nfrom zmesh.protocol import bounds\nfrom . import frames", False),
        ("zmesh.rooms.log", "from zmesh import errors, protocol\nfrom ..errors import MeshError", False),
        ("zmesh.peer.store", "import os, sqlite3, zmq\nfrom zmesh.trust.keys import DeviceKey", False),
        (
            "zmesh.cli.main",
            "import click, rich\nimport zmesh\nfrom zmesh import Peer\nimport zmesh.daemon.client",
            False,
        ),
        ("zmesh.__main__", "from zmesh.cli.main import main", False),
        ("zmesh", "from .errors import MeshError\nfrom zmesh.peer import Peer", True),
    ],
)
def test_an_import_that_points_down_is_let_through(module: str, source: str, is_package: bool) -> None:  # noqa: FBT001
    assert layer_faults(source, module, is_package=is_package) == []


def test_an_adapter_that_reaches_inside_is_found() -> None:
    public = frozenset(("Peer", "connect"))
    assert adapter_faults("import zmesh\nfrom zmesh import Peer\nzmesh.connect('a')", public) == []
    assert adapter_faults("from zmesh.peer import Peer", public)
    assert adapter_faults("import zmesh.protocol.wire", public)
    assert adapter_faults("from zmesh import protocol", public)
    assert adapter_faults("import zmesh\nzmesh.peer.Peer('a')", public)
