"""The `adaptation` section: how a language model adapts to a text that it reads."""

from typing import Annotated, Any, Self

from pydantic import Field

from seq2seq_kit import bounds
from seq2seq_kit.config.section import Count, Fraction, Section, Tokens


class AdaptationConfig(Section):
    """How a language model adapts to the text that it scores or is to continue.

    Dynamic evaluation moves the weights after each segment of the text; a neural cache raises the
    probability of tokens that followed on similar states before.
    """

    rate: Annotated[float, Field(ge=0.0, le=bounds.MAX_LEARNING_RATE, strict=True)] = 0.001
    """Dynamic evaluation: how far the weights move after a segment; 0 leaves them alone."""
    decay: Fraction = 0.0005
    """Dynamic evaluation: the share of the way back to the saved weights that they move after a
    segment."""
    segment: Tokens = 20
    """Tokens that are read before the weights move: fewer adapt better and take longer."""
    cache_weight: Fraction = 0.0
    """Scoring: the share of the neural cache in the probability of a token; 0 uses no cache."""
    cache_size: Annotated[Count, Field(ge=1)] = 2000
    """Scoring: the number of tokens that the neural cache remembers."""
    cache_sharpness: Annotated[float, Field(ge=0.0, le=bounds.MAX_SHARPNESS, strict=True)] = 0.3
    """Scoring: the factor of the inner products by which the neural cache compares states. With 0,
    all that it remembers counts alike."""

    def override(self, **options: Any) -> Self:
        """Returns these options with others in place of some; None leaves a field as it is.

        Raises:
            InputError: If a value is not allowed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return self.model_copy(update=self.check_values(given))
