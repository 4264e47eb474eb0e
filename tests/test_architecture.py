"""Dependencies point downward only and no unsafe or global habits creep in."""

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

# A wing may import from wings above it in this list and from itself. What is not listed fails.
WINGS = (
    ("types", "errors", "registry", "atomic", "moved"),
    ("devices",),
    ("data",),
    ("tasks",),
    ("federated",),
    ("kernels",),
    ("aggregators",),
    ("problems",),
    ("pretrained",),
    ("meta_testing",),
    ("runs",),
    ("meta_training",),
    ("config",),
    ("build",),
    ("report",),
    ("integrations",),
    ("jobs",),
    ("export",),
    ("cli",),
)
LEVELS = {wing: level for level, wings in enumerate(WINGS) for wing in wings}
REGISTRIES = (
    "aggregators",
    "federated.clients",
    "federated.compressors",
    "meta_training.estimators",
    "data.partitions",
    "tasks.models",
    "tasks.objectives",
    "runs.trackers",
)
SHARED = (
    "learned_aggregation.aggregators.classical",
    "learned_aggregation.aggregators.learned",
    "learned_aggregation.federated.compressors.base",
    "learned_aggregation.federated.compressors.chunks",
)
"""What the members of a registry have in common."""


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
    wing = part(module)
    for imported in imports(MODULES[module]):
        other = part(imported)
        if other not in ("", wing) and wing != "":
            assert LEVELS[other] < LEVELS[wing] or (LEVELS[other] == LEVELS[wing] == 0), (
                f"{module} imports {imported}"
            )


def test_no_imports_in_a_circle():
    """Between single modules, those inside functions included."""
    graph = {module: {i for i in imports(path) if i in MODULES} for module, path in MODULES.items()}
    graph = {m: {i for i in found if not m.startswith(i + ".")} - {m} for m, found in graph.items()}
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("registry", REGISTRIES)
def test_siblings_in_a_registry_do_not_import_each_other(registry):
    package = f"learned_aggregation.{registry}"
    members = [m for m in MODULES if m.startswith(package + ".")]
    assert members
    for member in members:
        if member.startswith(SHARED):
            continue
        siblings = [
            i for i in imports(MODULES[member]) if i in members and i != member and not i.startswith(SHARED)
        ]
        assert not siblings, f"{member} imports {siblings}"


def test_a_config_never_travels_past_build():
    above = {"config", "build", "jobs", "export", "cli"}
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
