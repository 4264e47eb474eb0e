"""Trains what `benchmarks.siammae` judges: `nice python -m benchmarks.siammae_train NAME[:SEED] ...`, in turn.

Killed, the same command goes on where it was saved; what is finished is skipped. Every variant's seed 0 is the search;
the main one has three.
"""

import sys
from collections.abc import Sequence

from benchmarks.siammae_models import VARIANTS, is_trained, trained


def main(argv: Sequence[str] | None = None) -> int:
    for asked in sys.argv[1:] if argv is None else argv:
        name, _, seed = asked.partition(":")
        if name not in VARIANTS:
            raise SystemExit(f"siammae_train: expected one of {', '.join(VARIANTS)}, got {name!r}.")
        if not is_trained(name, int(seed or 0)):
            trained(name, int(seed or 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
