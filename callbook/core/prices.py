"""The cost of a conversation with the model, where the model's prices are known."""

from __future__ import annotations

from typing import Final, Protocol

# In USD per million tokens, as OpenAI's pricing page lists them for a Realtime model. Cached text and audio have one
# price.
KINDS: Final = ("text_in", "audio_in", "cached_in", "text_out", "audio_out")


class Tokens(Protocol):
    """Token counts of the model; `cached_in` is included in the input."""

    @property
    def text_in(self) -> int: ...
    @property
    def audio_in(self) -> int: ...
    @property
    def cached_in(self) -> int: ...
    @property
    def text_out(self) -> int: ...
    @property
    def audio_out(self) -> int: ...


class Prices:
    """Prices from a text such as `text_in=4,audio_in=32,cached_in=0.4,text_out=16,audio_out=64`; empty: no prices.

    Raises ValueError for a text that omits a price or has another form.
    """

    def __init__(self, text: str) -> None:
        self._usd: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            kind, _, value = part.partition("=")
            if kind not in KINDS:
                raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
            self._usd[kind] = float(value)
        if self._usd and len(self._usd) < len(KINDS):
            raise ValueError(f"{', '.join(kind for kind in KINDS if kind not in self._usd)} is missing")

    def cost_usd(self, tokens: Tokens) -> float | None:
        """None without prices. Only the sum of the cached tokens is known: text and audio share it by their size."""
        if not self._usd:
            return None
        total_in = tokens.text_in + tokens.audio_in
        fresh = 1 - min(1.0, tokens.cached_in / total_in) if total_in else 0.0
        micro_usd = (
            self._usd["text_in"] * tokens.text_in * fresh
            + self._usd["audio_in"] * tokens.audio_in * fresh
            + self._usd["cached_in"] * tokens.cached_in
            + self._usd["text_out"] * tokens.text_out
            + self._usd["audio_out"] * tokens.audio_out
        )
        return round(micro_usd / 1_000_000, 6)
