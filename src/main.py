"""`python src/main.py --config FILE [flags]`; the same as the installed command `learned-aggregation`."""

import sys

if __name__ == "__main__":
    try:
        from learned_aggregation.cli import main

        status = main()
    except KeyboardInterrupt:  # before `main` could take it
        status = 130
    sys.exit(status)
