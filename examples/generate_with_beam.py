"""Generates for text of any size with Apache Beam, on any of its runners.

pip install -r examples/generate_with_beam.txt && s2s export de-en served
python examples/generate_with_beam.py served lines.txt outputs/part [options of the runner]
sort -n outputs/part* | cut -f 2-       # what `s2s generate` writes
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

# Characters of lines that are decoded together.
BUCKETS = [20, 30, 40, 50, 60, 80, 100, 150, 200, 400, 800]


class Export(ModelHandler[str, str, Any]):
    """Runs an exported SavedModel, which each worker loads once."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            min_batch_size=64,
            max_batch_size=64,
            max_batch_duration_secs=10,  # This turns the buckets on, too.
            batch_length_fn=lambda numbered: len(numbered[1]),
            batch_bucket_boundaries=BUCKETS,
        )
        self._folder = folder

    def load_model(self) -> Any:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401 - the tokenizer's op

        return tf.saved_model.load(self._folder)

    def run_inference(self, batch: Sequence[str], model: Any, *_: Any) -> Iterator[str]:
        outputs = model.signatures["serving_default"](inputs=list(batch))["outputs"]
        return (output.decode() for output in outputs.numpy())


def numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(FileSystems.open(path)):
        yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode()


def as_line(number: int, text: str) -> str:
    return str(number) + "\t" + text.replace("\\", "\\\\").replace("\n", "\\n")


if __name__ == "__main__":
    folder, source, output, *options = sys.argv[1:]
    with beam.Pipeline(options=PipelineOptions(options, save_main_session=True)) as pipeline:
        lines = pipeline | beam.Create([source]) | beam.FlatMap(numbered_lines) | beam.Reshuffle()
        found = lines | RunInference(KeyedModelHandler(Export(folder)))
        found | beam.MapTuple(as_line) | beam.io.WriteToText(output)  # type: ignore[unused-coroutine]
