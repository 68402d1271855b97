"""What tokens cost. Prices change and differ by contract, so they come from the project file, never from a guess."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Dollars = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Price(BaseModel):
    """US dollars per million tokens. A local model costs 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_per_million: Dollars
    output_per_million: Dollars

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars of one call."""
        return (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6
