"""Asks TensorFlow Serving for translations with the messages of its client library, by gRPC.

    pip install -r requirements.txt
    python client.py localhost:8500 de-en < lines.txt

Needs nothing of seq2seq_kit.
"""

import sys
from collections.abc import Sequence

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

LINES_AT_ONCE = 64
SECONDS = 60.0


def predict_request(
    texts: Sequence[str], model: str, signature: str = "serving_default"
) -> predict_pb2.PredictRequest:
    """Returns the message that asks a model for the outputs of texts."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(list(texts), tf.string))
    return request


def outputs_of(response: predict_pb2.PredictResponse) -> list[str]:
    """Returns the best output of each text."""
    return [output.decode() for output in tf.make_ndarray(response.outputs["outputs"])]


def main() -> None:
    """Writes the output of each line of standard input."""
    address, model = sys.argv[1:]
    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    lines = [line.rstrip("\n") for line in sys.stdin]
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for first in range(0, len(lines), LINES_AT_ONCE):
            request = predict_request(lines[first : first + LINES_AT_ONCE], model)
            for output in outputs_of(stub.Predict(request, timeout=SECONDS)):
                print(output)


if __name__ == "__main__":
    main()
