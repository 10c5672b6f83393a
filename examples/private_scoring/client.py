"""The customers' side: it encrypts their features, has the server score them, decrypts the scores.

The server is a process of its own; keys, request and reply are files. Run it from anywhere:
python examples/private_scoring/client.py [simulated | seal]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scoring import CUSTOMERS, FEATURES, EngineName, compiled  # type: ignore[import-not-found]
from server import BIAS, WEIGHTS  # type: ignore[import-not-found]  # for the check at the end alone

SERVER = Path(__file__).with_name("server.py")


def main() -> int:
    engine: EngineName = "seal" if "seal" in sys.argv[1:] else "simulated"
    features = np.random.default_rng(5).uniform(-1, 1, (CUSTOMERS, FEATURES))
    f = compiled(engine)
    client = f.client()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client.keys().save(folder / "keys")
        client.encrypt(X=features).save(folder / "request")
        subprocess.run([sys.executable, str(SERVER), engine, name], check=True)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        scores = client.decrypt(folder / "reply")
    for file, size in sizes.items():
        print(f"{file:<8}{size:>12,} bytes")
    exact = 1 / (1 + np.exp(-(features @ WEIGHTS + BIAS)))
    error = float(np.abs(scores - exact).max())
    (polynomial,) = f.packed.lowered.approximated
    print(f"{polynomial}\nthe largest error of a score is {error:.4f}, of {f!r}")
    return 0 if error < polynomial.error + 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
