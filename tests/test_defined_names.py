"""Every name that code reads is defined: what linters say of strings such as Float[Array, "K N"] keeps them from it."""

import builtins
import dis
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parent.parent
FILES = [
    path for folder in ("src", "benchmarks", "examples", "tests") for path in (ROOT / folder).rglob("*.py")
]
GIVEN = {*dir(builtins), "__file__", "__path__", "__annotations__"}


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a module and of all that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def undefined(source: str) -> set[str]:
    """Names that are read from a module's globals and that nothing in it defines."""
    module = compile(source, "module", "exec")
    instructions = [(code, step) for code in codes(module) for step in dis.get_instructions(code)]
    made = {
        step.argval
        for code, step in instructions
        if step.opname == "STORE_GLOBAL" or (step.opname == "STORE_NAME" and code is module)
    }
    read = {step.argval for _, step in instructions if step.opname == "LOAD_GLOBAL"}
    read |= {step.argval for code, step in instructions if step.opname == "LOAD_NAME" and code is module}
    return read - made - GIVEN


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x: 'K N'):\n    return g(x)", {"g"}),
        ("import os\n\ndef f():\n    from sys import argv\n    return os, argv, [y for y in argv]", set()),
        ("class A:\n    x = 1\n    y = x\n\n    def f(self):\n        return A, len, x", {"x"}),
    ],
)
def test_names_that_nothing_defines_are_found(source, expected):
    assert undefined(source) == expected


def test_every_name_is_defined():
    found = {str(path.relative_to(ROOT)): undefined(path.read_text(encoding="utf-8")) for path in FILES}
    assert {path: names for path, names in found.items() if names} == {}
