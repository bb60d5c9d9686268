"""Checks the signatures of an export with the messages of TensorFlow Serving's client library.

    pip install -r examples/tf_serving/requirements.txt     # an environment of its own will do
    python benchmarks/tf_serving_messages.py EXPORT --source FILE [--lines 200]

A small gRPC server on loopback has TensorFlow Serving's PredictionService: it reads each
`PredictRequest` by the signature that the SavedModel declares, runs it, and answers with a
`PredictResponse`, as the model server does. The client of `examples/tf_serving` asks it for the
lines of a file. Its answers must be those of calling the signature; a signature or an input that
does not exist must be refused. It does not replace a trial with the model server itself.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
import tensorflow_text  # noqa: F401 - the tokenizer's op
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "tf_serving"))

from client import outputs_of, predict_request


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's service, with one model.

    Args:
        folder: The SavedModel.
    """

    def __init__(self, folder: Path) -> None:
        self.loaded = tf.saved_model.load(str(folder))
        saved = saved_model_pb2.SavedModel()
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
        (graph,) = saved.meta_graphs
        self.signatures = {
            name: signature
            for name, signature in graph.signature_def.items()
            if not name.startswith("__")
        }

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Runs a signature with the tensors of a request."""
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.signatures:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no signature {name}")
        declared = self.signatures[name]
        if set(request.inputs) != set(declared.inputs):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "other inputs than the signature's")
        for key, info in declared.inputs.items():
            given = request.inputs[key]
            shape = tf.TensorShape(info.tensor_shape)
            if given.dtype != info.dtype or not shape.is_compatible_with(
                tf.TensorShape(given.tensor_shape)
            ):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{key} has another type or shape")
        values = {key: tf.constant(tf.make_ndarray(t)) for key, t in request.inputs.items()}
        found = self.loaded.signatures[name](**values)
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for key, info in declared.outputs.items():
            tensor = tf.make_tensor_proto(found[key].numpy(), info.dtype)
            response.outputs[key].CopyFrom(tensor)
        return response

    def GetModelMetadata(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Returns what the SavedModel declares."""
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=self.signatures)
        response.metadata["signature_def"].Pack(signatures)
        return response


def refused(stub: Any, request: Any) -> bool:
    """Whether a request is refused as invalid."""
    try:
        stub.Predict(request, timeout=60)
    except grpc.RpcError as error:
        return bool(error.code() == grpc.StatusCode.INVALID_ARGUMENT)
    return False


def check(stub: Any, service: Service, lines: list[str]) -> dict[str, bool]:
    """Returns what was checked, and whether it holds."""
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.metadata_field.append("signature_def")
    declared = get_model_metadata_pb2.SignatureDefMap()
    stub.GetModelMetadata(request).metadata["signature_def"].Unpack(declared)
    answers = stub.Predict(predict_request(lines, "model"), timeout=600)
    expected = service.loaded.signatures["serving_default"](inputs=tf.constant(lines, tf.string))
    best = stub.Predict(predict_request(lines[:8], "model", "n_best"), timeout=600)
    wrong_type = predict_request(lines[:1], "model")
    wrong_type.inputs["inputs"].CopyFrom(tf.make_tensor_proto([1.0]))
    return {
        "signatures are declared": {"serving_default", "n_best"} <= set(declared.signature_def),
        "outputs are those of the signature": outputs_of(answers)
        == [text.decode() for text in expected["outputs"].numpy()],
        "scores have their lines": len(tf.make_ndarray(answers.outputs["scores"])) == len(lines),
        "n_best has the best output first": [
            row[0].decode() for row in tf.make_ndarray(best.outputs["outputs"])
        ]
        == outputs_of(answers)[:8],
        "an unknown signature is refused": refused(
            stub, predict_request(lines[:1], "model", "classify")
        ),
        "another type is refused": refused(stub, wrong_type),
    }


def main() -> int:
    """Prints each check; returns 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=200, help="of the file, at most")
    arguments = parser.parse_args()
    lines = arguments.source.read_text(encoding="utf-8").splitlines()[: arguments.lines]
    server = grpc.server(ThreadPoolExecutor(2))
    service = Service(arguments.export)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        results = check(stub, service, lines)
    server.stop(None)
    for name, holds in results.items():
        print(f"{'ok ' if holds else 'NO '} {name}")
    return int(not all(results.values()))


if __name__ == "__main__":
    sys.exit(main())
