"""Dependencies point downward only (DESIGN rule 9), and no unsafe or global habits creep in."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "learned_aggregation"
MODULES = {
    ".".join(("learned_aggregation", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}

# Each part may import from parts with a smaller number only; what is not listed is 0.
LEVELS = {
    "types": 0,
    "errors": 0,
    "registry": 0,
    "data": 1,
    "tasks": 2,
    "kernels": 2,
    "learned": 3,
    "aggregators": 3,
    "clients": 3,
    "drop_in": 4,
    "loading": 4,
    "federated": 4,
    "integrations": 5,
    "inner_problem": 5,
    "mup": 5,
    "unroll": 5,
    "variation": 5,
    "task_augmentation": 5,
    "antithetic": 6,
    "estimators": 7,
    "meta_step": 8,
    "meta_validation": 8,
    "meta_train": 9,
    "meta_test": 9,
    "settings": 9,  # checks names against the registries
    "config": 9,
    "config_file": 9,
    "flags": 9,
    "rounds_file": 10,
    "build": 10,
    "jobs": 11,
    "cli": 12,
    "export": 12,
}
REGISTRIES = ("aggregators", "clients", "estimators", "data.partitions", "tasks.models", "trackers")


def imports(path):
    """(module, is it at the top level) of every import of our own in a file."""
    tree = ast.parse(path.read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("learned_aggregation"):
            found.append(node.module)
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in MODULES]
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("learned_aggregation")]
    return found


def part(module):
    return module.removeprefix("learned_aggregation").strip(".").split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    level = LEVELS.get(part(module), 0)
    for imported in imports(MODULES[module]):
        if part(imported) not in ("", part(module)) and part(module) != "":
            assert LEVELS.get(part(imported), 0) <= level, f"{module} imports {imported}"


@pytest.mark.parametrize("registry", REGISTRIES)
def test_siblings_in_a_registry_do_not_import_each_other(registry):
    package = f"learned_aggregation.{registry}"
    members = [m for m in MODULES if m.startswith(package + ".")]
    assert members
    for member in members:
        siblings = [i for i in imports(MODULES[member]) if i in members and i != member]
        assert not siblings, f"{member} imports {siblings}"


def test_a_config_never_travels_past_build():
    above = {
        "build",
        "jobs",
        "cli",
        "export",
        "config",
        "config_file",
        "flags",
        "settings",
        "sweep_config",
        "kinds",
    }
    for module, path in MODULES.items():
        if part(module) not in above:
            assert not any(part(i) == "config" for i in imports(path)), f"{module} reads the config"


def test_nothing_unpickles():
    """Only the inert unpickler of reference checkpoints may name pickle."""
    for module, path in MODULES.items():
        if module.endswith("reference_pickle"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            assert not {"pickle", "cloudpickle", "dill"} & set(names), module


def test_the_report_never_imports_jax():
    for module, path in MODULES.items():
        if part(module) == "report":
            assert "jax" not in path.read_text().replace("jaxtyping", "").split("import ", 1)[-1], module
