"""Dependencies point downward only and no unsafe or global habits creep in."""

import ast
import traceback
from pathlib import Path

import pytest

from benchmarks import hops
from benchmarks.checkout import PACKAGE, ROOT, package_of
from benchmarks.imports import LEVELS, allowed, circles, graph_of, imported, modules, part, structure

MODULES = modules(package_of(ROOT))
REGISTRIES = (
    "aggregators",
    "federated.clients",
    "federated.compressors",
    "meta_training.estimators",
    "data.partitions",
    "data.sources",
    "tasks.models",
    "tasks.objectives",
    "runs.trackers",
)
SHARED = (
    "learned_aggregation.aggregators.classical",
    "learned_aggregation.aggregators.learned",
    "learned_aggregation.federated.compressors.base",
    "learned_aggregation.federated.compressors.chunks",
    *(
        f"learned_aggregation.data.sources.{name}"
        for name in ("forms", "leaves", "loading", "splits", "stored")
    ),
)
"""What the members of a registry have in common."""


def imports(path):
    """Every import of our own in a file, by the module's name."""
    return imported(path, MODULES)


def write(package, **files):
    """A package with these modules: `data__sets="text"` is data/sets.py."""
    for name, text in {"__init__": "", **files}.items():
        path = package / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    for other in imports(MODULES[module]):
        assert allowed(part(module), part(other)), f"{module} imports {other}"


def test_no_imports_in_a_circle():
    """Between single modules, those inside functions included."""
    assert circles(graph_of(package_of(ROOT))) == []


def test_what_runs_up_or_in_a_circle_is_found(tmp_path):
    package = write(
        tmp_path / PACKAGE,
        errors="",
        data__sets=f"from {PACKAGE}.tasks import names\n",
        tasks__names=f"def late():\n    import {PACKAGE}.data.sets\n    import {PACKAGE}.errors\n",
        new_wing=f"from {PACKAGE} import errors\n",
    )
    found = structure(package)
    sets, names = f"{PACKAGE}.data.sets", f"{PACKAGE}.tasks.names"
    assert found.up == [f"{sets} -> {names}"]
    assert found.unordered == ["new_wing"]
    assert (found.circles, found.wing_circles) == ([[sets, names]], [["data", "tasks"]])
    assert found.arrows == {
        ("data", "tasks"): 1,
        ("tasks", "data"): 1,
        ("tasks", "errors"): 1,
        ("new_wing", "errors"): 1,
    }
    assert found.lines == {"": 0, "errors": 0, "data": 1, "tasks": 3, "new_wing": 1}
    with pytest.raises(KeyError):
        allowed("new_wing", "errors")


def test_every_wing_of_the_order_is_there():
    assert set(LEVELS) == {part(module) for module in MODULES} - {""}


def frame(file, name):
    return traceback.FrameSummary(str(file), 1, name, line="")


def test_hops_are_counted_from_the_outer_step_to_the_gradient():
    package, jax = Path("/package"), Path("/jax/api.py")
    calls = [
        ("build.py", "early"),
        ("step.py", "outer_step"),
        ("parallel.py", "map_jobs"),
        ("a.py", "estimate"),
    ]
    stack = [frame(package / file, name) for file, name in [*calls, ("a.py", "<lambda>"), ("b.py", "train")]]
    stack += [frame(jax, "value_and_grad_f"), frame(package / "tasks.py", "loss")]
    stack.insert(4, frame("/elsewhere/scan.py", "scan"))
    found = hops.hops(stack, package)
    assert [name for name, counted in found if counted] == ["a.py:estimate", "b.py:train"]
    assert [name for name, counted in found if not counted] == ["parallel.py:map_jobs", "a.py:<lambda>"]
    with pytest.raises(ValueError, match="no gradient"):
        hops.hops(stack[:-2], package)


def test_no_more_hops_to_a_client_s_gradient_than_before_the_wings():
    found = hops.measure()
    assert found["hops"] <= hops.BEFORE, found["frames"]


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
    above = {"config", "build", "jobs", "api", "export", "cli"}
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
