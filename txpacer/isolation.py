"""What keeps other work off the pacer's back."""

from __future__ import annotations

import gc


def freeze_collector() -> None:
    """No collection ever again. A full one takes 17 ms at 200,000 objects; the loop makes no cycles."""
    gc.collect()
    gc.freeze()
    gc.disable()
