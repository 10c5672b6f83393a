"""The bank's side: it scores customers whose features it never sees, with its own weights.

python server.py ENGINE FOLDER reads `keys` and `request` there, and writes `reply`. It holds no
secret key.
"""

import sys
from pathlib import Path
from typing import get_args

import numpy as np
from scoring import EngineName, compiled  # type: ignore[import-not-found]

#: What the model has learnt.
WEIGHTS = np.array([0.9, -0.7, 0.4, 0.8, -0.2, 0.6, -0.9, 0.3])
BIAS = 0.2


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[2])
    (engine,) = (each for each in get_args(EngineName) if each == name)
    server = compiled(engine).server(folder / "keys")
    server.run(folder / "request", W=WEIGHTS, C=BIAS).save(folder / "reply")
    print(f"the server did:\n{server.counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
