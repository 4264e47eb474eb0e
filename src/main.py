"""`python src/main.py --config FILE [flags]`; the same as the installed command `learned-aggregation`."""

import sys

from learned_aggregation.cli import main

if __name__ == "__main__":
    sys.exit(main())
