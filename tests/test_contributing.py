"""CONTRIBUTING's six additions, made from its blocks in a copy of the package."""

import re

import pytest
from additions import Addition, Edit, make

from benchmarks.checkout import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"^```python\n# ([^\n]*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def page_addition(blocks) -> Addition:
    """The files, lines and programs of blocks (first line, rest)."""
    files, edits, scripts = {}, [], []
    for head, body in blocks:
        path, comma, after = head.partition(", after ")
        if comma:
            edits.append(Edit(path, after, body.strip()))
        elif head == "then":
            scripts.append(body)
        else:
            files[head] = body
    here = "import sys, learned_aggregation\nassert learned_aggregation.__path__ == [sys.argv[1]]\n"
    return Addition(files, tuple(edits), here + "\n".join(scripts))


def test_every_block_of_the_page_is_one_of_these():
    assert len(BLOCKS) == len(re.findall(r"^```python", PAGE, re.MULTILINE))
    made = page_addition(BLOCKS)
    assert len(made.files) == 6
    assert all(re.fullmatch(r"[\w/]+\.py", path) for path in made.files)
    sections = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert sections == [
        "A rule",
        "A data set",
        "A task: an objective",
        "Freezing, and other wrappers",
        "A compressor",
        "Client work, server work",
        "A partition",
        "A bottleneck, a model that can be cut",
    ]


def test_the_additions_of_the_page_work():
    found = make(page_addition(BLOCKS))
    assert set(found.changed.values()) == {1}
    assert len(found.changed) == 4


def test_a_program_of_the_page_that_fails_is_seen():
    with pytest.raises(Exception, match="non-zero exit status"):
        make(page_addition([("then", "assert False")]))


def test_files_that_the_page_names_are_there():
    """Paths in backquotes, of the checkout or of the package."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|md|cc))`", PAGE))
    places = (ROOT, ROOT / "src" / "learned_aggregation")
    new = {
        *page_addition(BLOCKS).files,
        "tasks/models/my_net.py",
        "data/sources/my_source.py",
        "data/partitions/my_split.py",
    }
    new |= {"meta_training/estimators/my_estimator.py"}
    new |= {"split/bottlenecks/my_code.py", "split/models/my_family.py"}
    named = {path for path in named if not path.startswith("docs/claims/")}  # written by `make claims`
    missing = {path for path in named - new if not any((place / path).exists() for place in places)}
    assert missing == set()
