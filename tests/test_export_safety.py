"""SavedModels that do something else than search, found by their ops before they are loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seq2seq_kit.errors import InputError
from seq2seq_kit.export import ExportedModel
from seq2seq_kit.export_safety import check_ops


def write_file(path: str) -> None:
    tf.io.write_file(path, "harm")


def write_in_a_loop(path: str) -> None:
    def body(count: tf.Tensor) -> tf.Tensor:
        tf.io.write_file(path, "harm")
        return count + 1

    tf.while_loop(lambda count: count < 2, body, [tf.constant(0)])


def write_in_a_branch(path: str) -> None:
    def write() -> tf.Tensor:
        tf.io.write_file(path, "harm")
        return tf.constant(1)

    tf.cond(tf.random.uniform([]) < 2, write, lambda: tf.constant(0))


def write_in_a_call(path: str) -> None:
    tf.function(lambda: tf.function(lambda: write_file(path))())()


HARM: dict[str, tuple[Callable[[str], object], str]] = {
    "file": (write_file, "WriteFile"),
    "loop": (write_in_a_loop, "WriteFile"),
    "branch": (write_in_a_branch, "WriteFile"),
    "call": (write_in_a_call, "WriteFile"),
    "read": (tf.io.read_file, "ReadFile"),
    "list": (tf.io.matching_files, "MatchingFiles"),
    "print": (lambda path: tf.print("harm", output_stream=f"file://{path}"), "PrintV2"),
    "python": (lambda path: tf.py_function(lambda: 1, [], tf.int32), "EagerPyFunc"),
    "numpy": (lambda path: tf.numpy_function(lambda: 1, [], tf.int32), "PyFunc"),
    "save": (
        lambda path: tf.raw_ops.SaveV2(
            prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.zeros([1])]
        ),
        "SaveV2",
    ),
    "restore": (
        lambda path: tf.raw_ops.RestoreV2(
            prefix=path, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
        ),
        "RestoreV2",
    ),
}


class Module(tf.Module):
    """Answers each line with itself, and holds a weight, so that there is something to save."""

    def __init__(self, harm: Callable[[], object]) -> None:
        super().__init__()
        self.weight = tf.Variable(1.0)

        def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            harm()
            return {"outputs": inputs, "scores": tf.fill([tf.size(inputs)], self.weight)}

        signature = [tf.TensorSpec([None], tf.string, name="inputs")]
        self.serve = tf.function(serve, input_signature=signature)


def save(module: tf.Module, folder: Path) -> Path:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


@pytest.mark.parametrize("name", HARM)
def test_an_op_that_no_search_needs_is_refused_by_name(tmp_path: Path, name: str) -> None:
    harm, op = HARM[name]
    path = save(Module(lambda: harm(str(tmp_path / "harm"))), tmp_path / "model")
    with pytest.raises(InputError, match=rf"not loaded: it holds ([^.]*\W)?{op}\b"):
        ExportedModel(path)
    assert not list(tmp_path.glob("harm*"))


def test_saving_weights_is_no_harm(tmp_path: Path) -> None:
    path = save(Module(lambda: None), tmp_path / "model")
    check_ops(path)
    assert ExportedModel(path).generate(["a"]).texts == ["a"]


def test_a_function_outside_the_signature_is_looked_at_too(tmp_path: Path) -> None:
    module = Module(lambda: None)
    module.other = tf.function(lambda: write_file("harm"), input_signature=[])
    with pytest.raises(InputError, match="WriteFile"):
        check_ops(save(module, tmp_path / "model"))


class Resource(tf.saved_model.experimental.TrackableResource):
    """Loading a SavedModel runs the initializers of its resources."""

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="harm")

    def _initialize(self) -> None:
        write_file("harm")


def test_what_loading_itself_runs_is_looked_at_too(tmp_path: Path) -> None:
    resource = Resource()
    module = Module(lambda: resource.resource_handle)
    module.resource = resource
    with pytest.raises(InputError, match="WriteFile"):
        check_ops(save(module, tmp_path / "model"))


def test_a_function_that_only_an_object_names_is_looked_at_too(tmp_path: Path) -> None:
    # As a forger would: neither the main graph nor the table of functions names it any more.
    path = save(Module(lambda: write_file("harm")), tmp_path / "model")
    saved_model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    (graph,) = saved_model.meta_graphs
    graph.object_graph_def.concrete_functions.clear()
    saver = (graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name)
    kept = [n for n in graph.graph_def.node if n.name in saver or "Call" not in n.op]
    del graph.graph_def.node[:]
    graph.graph_def.node.extend(kept)
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(InputError, match="WriteFile"):
        check_ops(path)


def test_a_file_of_tensorflow_1_is_refused(tmp_path: Path) -> None:
    path = save(Module(lambda: None), tmp_path / "model")
    saved_model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    saved_model.meta_graphs[0].ClearField("object_graph_def")
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(InputError, match="not made by TensorFlow 2"):
        check_ops(path)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_saved_model_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"holds no saved_model\.pb.*s2s export"):
        check_ops(tmp_path / folder)


@pytest.mark.parametrize("content", [b"no protocol buffer", b"\x0a"])
def test_a_file_that_is_no_saved_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        check_ops(tmp_path)
