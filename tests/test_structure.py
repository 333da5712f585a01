"""The structure of the package: allowed imports, size of modules, division of responsibilities."""

import ast
import re
import string
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

from charlstm.cli import program

SOURCE = Path(__file__).parents[1] / "src" / "charlstm"
README = (SOURCE.parents[1] / "README.md").read_text("utf-8")
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}
FLAGS = {flag for c in program.commands.values() for p in c.params for flag in p.opts}
COMPUTE = (
    *(
        "network",
        "evaluation",
        "adaptation",
        "training",
        "scoring",
        "drawing",
        "sampling",
        "export",
    ),
)
PATHS = pytest.mark.parametrize("name", sorted(MODULES))


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text("utf-8"))


def imports(name: str) -> set[str]:
    """Return the modules that a module imports anywhere, also for type checking only."""
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an absolute import can be searched for"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {n if n in MODULES else node.module or "" for n in names}
    return (found & MODULES.keys()) - {name}


def layers() -> list[str]:
    """Return the modules and packages in the order of the README's file map."""
    lines = README.partition("\nsrc/charlstm/\n")[2].partition("```")[0].splitlines()
    names = [match[1] for line in lines if (match := re.match(r"  (\w+)(?:/|\.py) ", line))]
    return [f"charlstm.{name}" for name in names]


def layer_of(name: str) -> int:
    top = ".".join(name.split(".")[:2])
    return layers().index("charlstm.__init__" if name == "charlstm" else top)


def test_the_file_map_names_every_module_once() -> None:
    tops = {".".join(name.split(".")[:2]) for name in MODULES} - {"charlstm"}
    assert sorted(layers()) == sorted(tops | {"charlstm.__init__"})


@PATHS
def test_a_module_imports_only_from_modules_above_it_in_the_map(name: str) -> None:
    for other in imports(name):
        same_package = other.split(".")[1:2] == name.split(".")[1:2]
        assert same_package or layer_of(other) < layer_of(name), f"{name} imports {other}"


def test_there_are_no_circular_imports() -> None:
    left = {name: imports(name) for name in MODULES}
    while ready := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in ready}
    assert not left, left


@PATHS
def test_only_modules_that_compute_import_tensorflow(name: str) -> None:
    text = MODULES[name].read_text("utf-8")
    if re.search(r"^\s*(import|from) (tensorflow|keras)\b", text, re.MULTILINE):
        assert name == "charlstm.network.backend"
    if re.search(r"from charlstm\.network\.backend import .*\b(tf|keras)\b", text):
        assert name.split(".")[1] in COMPUTE


@PATHS
def test_only_the_command_line_prints_imports_click_or_names_a_flag(name: str) -> None:
    if name.split(".")[1:2] == ["cli"]:
        return
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # The docstring of ``errors`` has a flag as an example.
            flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)) & FLAGS
            assert not flags or name == "charlstm.errors", flags
        if isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") != "print"
    assert not re.search(
        r"^\s*(import|from) click\b", MODULES[name].read_text("utf-8"), re.MULTILINE
    )


@PATHS
def test_only_files_and_folders_write_files(name: str) -> None:
    """Export formats write to a temporary path from ``files``, which then renames it."""
    if name in {"charlstm.files", "charlstm.folders"} or name.startswith("charlstm.export."):
        return
    text = MODULES[name].read_text("utf-8").replace("Path(os.devnull).open(", "")
    assert not re.search(
        r"""\.open\(["']([wax]|r\+)|\.write_(bytes|text)\(|os\.(replace|rename)""", text
    )


@PATHS
def test_modules_and_functions_are_short(name: str) -> None:
    assert len(MODULES[name].read_text("utf-8").splitlines()) <= 250
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno < 40, node.name


def test_hints_name_existing_options_only() -> None:
    """A name in braces is shown as a flag, which must exist."""
    known = {p.name for command in program.commands.values() for p in command.params}
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CharlstmError":
                for argument in node.args[1:]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        fields = string.Formatter().parse(argument.value)
                        assert {field for _, field, _, _ in fields if field} <= known, name


def test_all_imported_packages_are_declared() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    declared = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    names = {re.split(r"[^\w-]", line)[0].lower() for line in declared}
    providers = metadata.packages_distributions()
    for name in MODULES:
        for node in ast.walk(tree(name)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in {module.split(".")[0] for module in modules}:
                if module not in sys.stdlib_module_names | {"charlstm"}:
                    packages = {re.sub(r"[._]", "-", p.lower()) for p in providers[module]}
                    assert packages & names, f"{name} imports {module}"


def test_all_test_files_named_in_the_makefile_exist() -> None:
    names = re.findall(r"tests/\S+\.py", (SOURCE.parents[1] / "Makefile").read_text("utf-8"))
    assert names
    for name in names:
        assert (SOURCE.parents[1] / name).is_file(), name
