"""Generates for text of any size with Ray Data, on one machine or a cluster.

    pip install -r examples/generate_with_ray.txt
    s2s export de-en served
    python examples/generate_with_ray.py served lines.txt outputs.txt [number of processes]

The outputs are in the order of the inputs, as `s2s generate` writes them. Lines stream through the
processes; no more than some batches are in memory. Of each batch, the export decodes lines of like
length together.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray


class Export:
    """Runs an exported SavedModel, which each process loads once."""

    def __init__(self, folder: str) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401 - the tokenizer's op

        tf.config.threading.set_intra_op_parallelism_threads(1)  # One process for each core.
        self._model = tf.saved_model.load(folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        inputs = [text.removesuffix("\r") for text in batch["text"]]
        outputs = self._model.signatures["serving_default"](inputs=inputs)["outputs"]
        return {"output": np.array([output.decode() for output in outputs.numpy()], object)}


def as_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n") + "\n"


def main(folder: str, source: str, output: str, processes: str = "1") -> None:
    ray.init()
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    lines = ray.data.read_text(source, drop_empty_lines=False)
    found = lines.map_batches(
        Export,
        fn_constructor_args=[folder],
        batch_size=1024,
        compute=ray.data.ActorPoolStrategy(size=int(processes)),
    )
    with Path(output).open("w", encoding="utf-8", newline="\n") as file:
        for batch in found.iter_batches(batch_size=1024):
            file.writelines(map(as_line, batch["output"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
