"""The yardstick for language models: an n-gram model over characters, modified Kneser-Ney.

    python benchmarks/kneser_ney.py --train FILE ... --test FILE ... [--order 5]

Prints the perplexity a character of each test file, line ends counted as characters. The model is
that of Chen and Goodman, 1999, section 3: interpolated, with three discounts for each order, which
it computes from counts of counts. A character that no training file contains has the probability
that the model gives to all of them together. Files are plain or gzipped.
"""

import argparse
import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Those of KenLM, where the counts of counts are not those of natural text.
FALLBACK_DISCOUNTS = [0.5, 1.0, 1.5]


class Order(NamedTuple):
    """The n-grams of one length; a context is known by its rank among the shorter n-grams."""

    codes: np.ndarray
    """int64, sorted. `context rank * vocabulary + last character` of each n-gram."""
    discounted: np.ndarray
    """float64. Its count less its discount, divided by the count of its context."""
    backoff: np.ndarray
    """float64. For each context, the share of the probability that shorter contexts distribute."""


class KneserNey:
    """A character n-gram model.

    Args:
        text: The training text, one stream.
        order: The length of the longest n-grams.
    """

    def __init__(self, text: str, order: int = 5) -> None:
        characters = sorted(set(text))
        self.ids = {character: index for index, character in enumerate(characters, start=1)}
        self.vocab_size = len(characters) + 1  # 0 is any unknown character
        self.orders: list[Order] = []
        tokens = self.encode(text)
        ranks = np.zeros(len(tokens), np.int64)  # of the context that begins at each position
        levels = []  # of each order: n-grams' codes, and how often each occurs
        for size in range(1, order + 1):
            codes = ranks[: len(tokens) - size + 1] * self.vocab_size + tokens[size - 1 :]
            unique, ranks, counts = np.unique(codes, return_inverse=True, return_counts=True)
            levels.append((unique, counts, ranks))
        for size, (unique, counts, _) in enumerate(levels, start=1):
            if size < order:
                counts = self._preceding_characters(levels, size)
            num_contexts = 1 if size == 1 else len(levels[size - 2][0])
            self.orders.append(self._discount(unique, counts, num_contexts))

    def _preceding_characters(
        self, levels: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], size: int
    ) -> np.ndarray:
        """Returns how many different characters precede each n-gram of a length."""
        _, first_of_longer = np.unique(levels[size][2], return_index=True)
        # The n-gram without its first character begins one position later.
        suffixes = levels[size - 1][2][first_of_longer + 1]
        return np.bincount(suffixes, minlength=len(levels[size - 1][0]))

    def _discount(self, codes: np.ndarray, counts: np.ndarray, num_contexts: int) -> Order:
        of_count = [max(1, int(np.sum(counts == number))) for number in range(1, 5)]
        share = of_count[0] / (of_count[0] + 2 * of_count[1])
        discounts = [n - (n + 1) * share * of_count[n] / of_count[n - 1] for n in (1, 2, 3)]
        if not all(0.0 < discount <= n for n, discount in enumerate(discounts, start=1)):
            discounts = FALLBACK_DISCOUNTS
        discounts = np.array([0.0, *discounts])
        contexts = codes // self.vocab_size
        totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
        removed = discounts[np.minimum(counts, 3)]
        known = np.maximum(totals, 1.0)
        discounted = np.maximum(counts - removed, 0.0) / known[contexts]
        kept = np.bincount(contexts, weights=discounted, minlength=num_contexts)
        # A context that only ends the text is followed by nothing: all is left to shorter ones.
        return Order(codes, discounted, np.where(totals > 0, 1.0 - kept, 1.0))

    def encode(self, text: str) -> np.ndarray:
        """Returns the number of each character, int64."""
        return np.array([self.ids.get(character, 0) for character in text], np.int64)

    def log_probs(self, text: str) -> np.ndarray:
        """Returns the log-probability of each character after those before it, float64, in nats."""
        tokens = self.encode(text)
        probabilities = np.full(len(tokens), 1.0 / self.vocab_size)
        contexts = np.zeros(len(tokens), np.int64)  # ranks of the contexts of the current length
        is_known = np.ones(len(tokens), bool)
        for order in self.orders:
            codes = contexts * self.vocab_size + tokens
            places = np.minimum(np.searchsorted(order.codes, codes), len(order.codes) - 1)
            is_found = is_known & (order.codes[places] == codes)
            shorter = order.backoff[np.where(is_known, contexts, 0)] * probabilities
            longer = np.where(is_found, order.discounted[places], 0.0) + shorter
            probabilities = np.where(is_known, longer, probabilities)
            # The n-gram that ends before a position is the context of the next order.
            contexts = np.concatenate([[-1], np.where(is_found, places, -1)[:-1]])
            is_known = contexts >= 0
        return np.log(probabilities)


def read_text(path: Path) -> str:
    """Returns the text of a plain or gzipped file."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read()


def main() -> None:
    """Prints the perplexity of each test file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--order", type=int, default=5)
    options = parser.parse_args()
    model = KneserNey("\n".join(map(read_text, options.train)), options.order)
    for path in options.test:
        # Empty lines between pieces say nothing about the model.
        lines = [line for line in read_text(path).split("\n") if line]
        text = "\n" + "\n".join(lines) + "\n"
        log_probs = model.log_probs(text)[1:]
        unknown = sum(character not in model.ids for character in text[1:])
        print(
            f"{path.name}: perplexity {math.exp(-log_probs.mean()):.2f} a character,"
            f" {len(log_probs):,} characters, {unknown} of them unknown"
        )


if __name__ == "__main__":
    main()
