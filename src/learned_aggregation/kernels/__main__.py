"""`python -m learned_aggregation.kernels`: compiles the optional CPU kernel."""

import sys

from learned_aggregation.errors import UserError
from learned_aggregation.kernels.compiled import build

try:
    print(f"kernel: {build()}")
except UserError as error:
    print(f"{error}", file=sys.stderr)
