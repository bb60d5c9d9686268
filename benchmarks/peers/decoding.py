"""The clock of the peers that decode: runs a search over sources and prints what was measured."""

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any


def measure_decoding(
    sources: Sequence[Any], batch_size: int, search: Callable[[list[Any]], list[list[int]]]
) -> None:
    """Decodes the sources, longest first, and prints a line of JSON: the speed and the outputs.

    Args:
        sources: Token ids, with EOS.
        batch_size: Sources searched together.
        search: Returns the best output for each of some sources, without EOS.
    """
    order = sorted(range(len(sources)), key=lambda row: -len(sources[row]))
    search([sources[order[-1]]])
    first_output = time.time() - float(os.environ["STARTED"])
    outputs: list[list[int]] = [[]] * len(sources)
    begun = time.perf_counter()
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        found = search([sources[row] for row in members])
        for row, output in zip(members, found, strict=True):
            outputs[row] = output
    seconds = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "lines_per_second": len(sources) / seconds,
                "start_and_first_output": first_output,
                "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "outputs": outputs,
            }
        )
    )
