"""Parts: what a nest that threads share is cut into (loops.Parallel)."""

from __future__ import annotations

#: Picoseconds: less work than this is no part of its own, for then starting it does not pay.
SHORTEST_PART = 40_000_000
