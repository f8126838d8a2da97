"""The house rules that a reader relies on."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

import lib
from lib.config import ROOT

ORDER = re.findall(r"\w+", lib.__doc__.partition("right:\n")[2])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED, TESTING = (
    [re.match(r"[a-z-]+", each)[0] for each in names]
    for names in (PROJECT["dependencies"], PROJECT["optional-dependencies"]["test"])
)
MODULES = sorted(path.stem for path in (ROOT / "lib").glob("*.py") if path.stem != "__init__")


def nodes(module):
    return ast.walk(ast.parse((ROOT / "lib" / f"{module}.py").read_text()))


def imported(module):
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and node.module == "lib":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            yield node.module.removeprefix("lib.")


def foreign_packages():
    names = set()
    for node in (node for module in MODULES for node in nodes(module)):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.partition(".")[0] for name in names} - {"lib"} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_one_to_its_right(module):
    assert module in ORDER
    assert all(ORDER.index(name) < ORDER.index(module) for name in imported(module))


def test_the_lock_is_plain_and_names_every_dependency():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.+]*", line) for line in lines)
    assert len(DECLARED) >= 11
    assert set(DECLARED) | set(TESTING) <= {line.split("==")[0] for line in lines}


def test_what_lib_imports_is_declared_and_not_only_there_because_another_package_needs_it():
    distributions = packages_distributions()
    assert {name.lower() for package in foreign_packages() for name in distributions[package]} <= set(DECLARED)


def test_conda_reads_the_same_lists():
    text = (ROOT / "environment.yml").read_text()
    assert "- -r requirements.txt" in text
    assert "==" not in text
