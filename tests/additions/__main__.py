import json
import sys

from additions import NAMES, addition, make

if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
    raise SystemExit(f"additions: expected one of {', '.join(NAMES)}, got {sys.argv[1:]!r}.")
print(json.dumps(make(addition(sys.argv[1]))._asdict()))
