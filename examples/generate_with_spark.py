"""Generates for text of any size with Apache Spark, on one machine or a cluster.

    pip install -r examples/generate_with_spark.txt         # and Java 17 or later
    s2s export de-en served
    spark-submit examples/generate_with_spark.py served lines.txt outputs
    cat outputs/part-*                                      # what `s2s generate` writes

On a cluster, all paths must be on storage that the executors share. Of each batch, the export
decodes lines of like length together.
"""

import sys
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.functions import monotonically_increasing_id


def load(folder: str) -> Any:
    """Returns an exported SavedModel."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - the tokenizer's op

    tf.config.threading.set_intra_op_parallelism_threads(1)  # Spark has a process for each core.
    return tf.saved_model.load(folder)


def as_line(output: bytes) -> str:
    return output.decode().replace("\\", "\\\\").replace("\n", "\\n")


def generate(batches: Iterator[Any], folder: str) -> Iterator[Any]:
    """Yields numbers and outputs for the numbers and lines of a partition."""
    model = load(folder)
    for batch in batches:
        inputs = [text.removesuffix("\r") for text in batch["value"]]
        outputs = model.signatures["serving_default"](inputs=inputs)["outputs"]
        yield batch[["number"]].assign(value=[as_line(output) for output in outputs.numpy()])


def main(folder: str, source: str, output: str) -> None:
    spark = SparkSession.builder.getOrCreate()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "1024")
    lines = spark.read.option("lineSep", "\n").text(source)
    numbered = lines.select(monotonically_increasing_id().alias("number"), "value")
    found = numbered.mapInPandas(
        lambda batches: generate(batches, folder), "number long, value string"
    )
    found.orderBy("number").select("value").write.option("lineSep", "\n").text(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
