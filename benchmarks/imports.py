"""The package's wings, in order, and who imports whom: `python -m benchmarks.imports`.

python -m benchmarks.imports                    this checkout
python -m benchmarks.imports --before 92bf4a2   and a revision of it, side by side
python -m benchmarks.imports --package PATH     another copy of the package
python -m benchmarks.imports --hops             the functions between the outer step and a client's gradient

A wing is a folder of the package, or a module beside the folders. An arrow is one module importing one module of
another wing, inside functions too. It runs up where the order of WINGS does not allow it. A circle is a set of modules,
or of wings, that reach one another. tests/test_architecture.py holds this order; nothing heavy is imported here.
"""

import argparse
import ast
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.checkout import PACKAGE, ROOT, files_of, package_of, run_json

# A wing may import from wings above it in this list and from itself. What is not listed fails.
WINGS = (
    ("types", "errors", "outside", "registry", "atomic", "json_text", "moved", "streams"),
    ("devices",),
    ("data",),
    ("kernels",),
    ("tasks",),
    ("federated",),
    ("aggregators",),
    ("problems",),
    ("pretrained",),
    ("meta_testing",),
    ("runs",),
    ("meta_training",),
    ("split",),
    ("ssl",),
    ("generators",),
    ("config",),
    ("build",),
    ("report",),
    ("integrations",),
    ("jobs",),
    ("api",),
    ("export",),
    ("cli",),
)
LEVELS = {wing: level for level, wings in enumerate(WINGS) for wing in wings}
SOURCES = (".py", ".cc", ".h")

Graph = Mapping[str, set[str]]


class Structure(NamedTuple):
    """What a copy of the package looks like.

    files, lines: of each wing. arrows: (wing, wing that it imports from) -> how many. up: arrows that WINGS does not
    allow, "module -> module". unordered: wings that WINGS does not list. circles: of modules, then of wings.
    """

    files: dict[str, int]
    lines: dict[str, int]
    arrows: dict[tuple[str, str], int]
    up: list[str]
    unordered: list[str]
    circles: list[list[str]]
    wing_circles: list[list[str]]

    def figures(self) -> dict[str, int]:
        """The whole in numbers."""
        return {
            "wings": len(self.files.keys() - {""}),
            "files": sum(self.files.values()),
            "lines": sum(self.lines.values()),
            "pairs of wings with an arrow": len(self.arrows),
            "arrows": sum(self.arrows.values()),
            "arrows up": len(self.up),
            "wings without a place in the order": len(self.unordered),
            "circles of modules": len(self.circles),
            "circles of wings": len(self.wing_circles),
        }


def modules(package: Path) -> dict[str, Path]:
    """The name of every module below a package's folder, with its file."""
    return {
        ".".join((PACKAGE, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


def imported(path: Path, known: Iterable[str]) -> list[str]:
    """The modules of the package that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            found.append(node.module)
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in known]
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith(PACKAGE)]
    return found


def part(module: str) -> str:
    """The wing of a module; "" is the package's own __init__."""
    return module.removeprefix(PACKAGE).strip(".").split(".")[0]


def graph_of(package: Path) -> dict[str, set[str]]:
    """module -> the modules of the package that it imports; a package that it lies in is none of them."""
    known = modules(package)
    found = {module: {i for i in imported(path, known) if i in known} for module, path in known.items()}
    return {m: {i for i in targets if not m.startswith(i + ".")} - {m} for m, targets in found.items()}


def allowed(wing: str, other: str) -> bool:
    """Whether a module of `wing` may import one of `other`; a KeyError for a wing without a place in the order."""
    return (
        other in ("", wing)
        or wing == ""
        or LEVELS[other] < LEVELS[wing]
        or LEVELS[other] == LEVELS[wing] == 0
    )


def circles(graph: Graph) -> list[list[str]]:
    """The sets of nodes that reach one another, of two nodes or more."""
    reached = {node: _reached(graph, node) for node in graph}
    found = {frozenset({n for n in reached[node] if node in reached[n]} | {node}) for node in graph}
    return sorted(sorted(one) for one in found if len(one) > 1)


def _reached(graph: Graph, start: str) -> set[str]:
    """All nodes that a path of at least one arrow leads to."""
    seen, waiting = set(), list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph[node]
    return seen


def structure(package: Path) -> Structure:
    """Reads a copy of the package."""
    graph = graph_of(package)
    sources = sorted(path for path in package.rglob("*") if path.suffix in SOURCES)
    files, lines = Counter(), Counter()
    for path in sources:
        wing = path.relative_to(package).with_suffix("").parts[0].removesuffix("__init__")
        files[wing] += 1
        lines[wing] += len(path.read_text().splitlines())
    pairs = [(m, i) for m, targets in graph.items() for i in _without_parents(targets)]
    crossing = [(m, i) for m, i in pairs if part(m) != part(i) and "" not in (part(m), part(i))]
    arrows = Counter((part(m), part(i)) for m, i in crossing)
    unordered = sorted(wing for wing in files if wing and wing not in LEVELS)
    up = [
        f"{m} -> {i}"
        for m, i in crossing
        if {part(m), part(i)} <= LEVELS.keys() and not allowed(part(m), part(i))
    ]
    wings = {wing: {b for a, b in arrows if a == wing} for wing in files}
    return Structure(
        dict(files), dict(lines), dict(arrows), sorted(up), unordered, circles(graph), circles(wings)
    )


def _without_parents(targets: set[str]) -> list[str]:
    """`from package.data import sampling` imports one module, not package.data too."""
    return sorted(t for t in targets if not any(other.startswith(t + ".") for other in targets))


def text(found: Structure) -> str:
    """A structure for people: the wings from the highest down, then the figures."""
    order = sorted(found.files, key=lambda wing: (-LEVELS.get(wing, len(WINGS)), wing))
    lines = [f"{'wing':<18}{'files':>6}{'lines':>7}  imports from"]
    for wing in order:
        targets = sorted((-n, b) for (a, b), n in found.arrows.items() if a == wing)
        listed = ", ".join(f"{b} {-n}" for n, b in targets)
        name = wing or "(the package)"
        lines.append(f"{name:<18}{found.files[wing]:>6}{found.lines[wing]:>7}  {listed}")
    lines += ["", *(f"{name}: {number}" for name, number in found.figures().items())]
    lines += [f"up: {arrow}" for arrow in found.up]
    lines += [f"circle of modules: {', '.join(one)}" for one in found.circles]
    lines += [f"circle of wings: {', '.join(one)}" for one in found.wing_circles]
    return "\n".join(lines)


def beside(now: Structure, before: Structure) -> str:
    """The figures of two structures in a table."""
    rows = [("", "before", "now")]
    rows += [(name, str(before.figures()[name]), str(number)) for name, number in now.figures().items()]
    return "\n".join(f"{name:<36}{old:>8}{new:>8}" for name, old, new in rows)


def hops_of(tree: Path) -> dict:
    """What benchmarks/hops.py finds in a checkout, which may be older than that file."""
    return json.loads(run_json(["-P", str(ROOT / "benchmarks" / "hops.py")], tree))


def hops_text(found: Mapping) -> str:
    """The functions in the order of the calls; those that are not counted in brackets."""
    lines = [f"{found['hops']} hops from the outer step to a client's gradient; {found['counted']}"]
    lines += [f"  {n}" if counted else f"  ({n})" for n, counted in found["frames"]]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is asked for; 1 where an arrow of this checkout runs up or in a circle."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, default=package_of(ROOT), help="the package's folder")
    parser.add_argument("--before", metavar="REV", help="a revision to compare with")
    parser.add_argument("--hops", action="store_true", help="count the functions to a client's gradient")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    asked = parser.parse_args(argv)
    if not (asked.package / "__init__.py").is_file():
        parser.error(f"--package: expected the folder of {PACKAGE}, got {str(asked.package)!r}.")
    tree = asked.package.resolve().parent.parent
    measure, show = (hops_of, hops_text) if asked.hops else (lambda t: structure(package_of(t)), text)
    now = measure(tree) if asked.hops else structure(asked.package)
    before = None
    if asked.before:
        with files_of(asked.before) as old:
            before = measure(old)
    if asked.json:
        figures = [one if one is None or asked.hops else one.figures() for one in (now, before)]
        print(json.dumps(dict(zip(("now", "before"), figures, strict=True))))
        return 0
    if before is not None:
        print(f"== {asked.before}\n{show(before)}\n\n== now")
    print(show(now))
    if asked.hops:
        return 0
    if before is not None:
        print(f"\n{beside(now, before)}")
    return 1 if now.up or now.unordered or now.circles or now.wing_circles else 0


if __name__ == "__main__":
    sys.exit(main())
