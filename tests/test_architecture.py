"""The house rules that a reader relies on."""

import ast
import re

import pytest

import lib
from lib.config import ROOT

ORDER = re.findall(r"\w+", lib.__doc__.partition("right:\n")[2])
MODULES = sorted(path.stem for path in (ROOT / "lib").glob("*.py") if path.stem != "__init__")


def imported(module):
    tree = ast.parse((ROOT / "lib" / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "lib":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            yield node.module.removeprefix("lib.")


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_one_to_its_right(module):
    assert module in ORDER
    assert all(ORDER.index(name) < ORDER.index(module) for name in imported(module))


def test_the_lock_is_plain_and_names_every_dependency():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.+]*", line) for line in lines)
    locked = {line.split("==")[0] for line in lines}
    declared = re.findall(r'^\s+"([a-z-]+)[=><]=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(declared) >= 11
    assert set(declared) <= locked


def test_conda_reads_the_same_lists():
    text = (ROOT / "environment.yml").read_text()
    assert "- -r requirements.txt" in text
    assert "==" not in text
