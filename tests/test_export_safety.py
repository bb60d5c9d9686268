"""SavedModels that do something else than search, found before they are loaded."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_RESOURCE
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seq2seq_kit.errors import InputError
from seq2seq_kit.export.safety import check_saved_model, checked_copy
from seq2seq_kit.export.saved_model import ExportedModel


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


def write_one(path: str) -> tf.Tensor:
    write_file(path)
    return tf.constant(1)


def list_lines(path: str) -> tf.Tensor:
    return tf.data.TextLineDataset(path).reduce(0, lambda count, _: count + 1)


def look_up(path: str) -> tf.Tensor:
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    return tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=path, key_index=-2, value_index=-1
    )


def write_in_a_gradient(path: str) -> None:
    @tf.custom_gradient
    def harmful(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            write_file(path)
            return upstream

        return tf.identity(x), gradient

    x = tf.constant(1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = harmful(x)
    tape.gradient(y, x)


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
    "merge": (
        lambda path: tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[path], destination_prefix=path
        ),
        "MergeV2Checkpoints",
    ),
    "lines": (lambda path: list_lines(path), "TextLineDataset"),
    "table": (lambda path: look_up(path), "InitializeTableFromTextFileV2"),
    "summary": (
        lambda path: tf.raw_ops.CreateSummaryFileWriter(
            writer=tf.raw_ops.SummaryWriter(),
            logdir=path,
            max_queue=1,
            flush_millis=1,
            filename_suffix="",
        ),
        "CreateSummaryFileWriter",
    ),
    "case": (
        lambda path: tf.switch_case(tf.constant(0), [lambda: write_one(path), lambda: 1]),
        "WriteFile",
    ),
    "gradient": (lambda path: write_in_a_gradient(path), "WriteFile"),
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
    check_saved_model(path)
    assert ExportedModel(path).generate(["a"]).texts == ["a"]


class Grafted(Module):
    """Answers by a function for which TensorFlow may take another one with the same attribute.

    Args:
        graft: Makes the answers of the other function.
    """

    def __init__(self, graft: Callable[[tf.Tensor], tf.Tensor]) -> None:
        signature = [tf.TensorSpec([None], tf.string, name="inputs")]

        def function(body: Callable[[tf.Tensor], tf.Tensor], device: str) -> tf.types.experimental:
            named = {"api_implements": "answer", "api_preferred_device": device}
            return tf.function(body, input_signature=signature, experimental_attributes=named)

        super().__init__(lambda: None)
        self.graft = function(graft, "CPU")
        plain = function(tf.identity, "GPU")

        def serve(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"outputs": plain(inputs), "scores": tf.fill([tf.size(inputs)], self.weight)}

        self.serve = tf.function(serve, input_signature=signature)


def edit(folder: Path, change: Callable[[MetaGraphDef], object]) -> Path:
    """Does to a SavedModel what a forger would."""
    file = folder / "saved_model.pb"
    saved_model = SavedModel.FromString(file.read_bytes())
    change(saved_model.meta_graphs[0])
    file.write_bytes(saved_model.SerializeToString())
    return folder


def forget_graft(graph: MetaGraphDef) -> None:
    """Leaves nothing that refers to the grafted function."""
    objects = graph.object_graph_def
    (graft,) = [name for name in objects.concrete_functions if "graft" in name or "body" in name]
    other = next(name for name in objects.concrete_functions if "serve" in name)
    del objects.concrete_functions[graft]
    for node in objects.nodes:
        if node.bare_concrete_function.concrete_function_name == graft:
            node.bare_concrete_function.concrete_function_name = other
        if graft in node.function.concrete_functions:
            node.function.concrete_functions[:] = [other]


def write_and_answer(path: str) -> Callable[[tf.Tensor], tf.Tensor]:
    def graft(inputs: tf.Tensor) -> tf.Tensor:
        write_file(path)
        return tf.identity(inputs)

    return graft


def test_a_graft_that_writes_a_file_is_refused(tmp_path: Path) -> None:
    path, harm = tmp_path / "model", tmp_path / "harm"
    edit(save(Grafted(write_and_answer(str(harm))), path), forget_graft)
    # This is what there is to be afraid of.
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    serve(inputs=tf.constant(["a"]))
    assert harm.read_text() == "harm"
    harm.unlink()
    with pytest.raises(InputError, match="WriteFile, api_implements, api_preferred_device"):
        ExportedModel(path)
    assert not harm.exists()


def test_a_graft_that_reads_a_file_is_refused(tmp_path: Path) -> None:
    path, secret = tmp_path / "model", tmp_path / "secret"
    secret.write_text("secret")

    def graft(inputs: tf.Tensor) -> tf.Tensor:
        return tf.fill([tf.size(inputs)], tf.io.read_file(str(secret)))

    edit(save(Grafted(graft), path), forget_graft)
    with pytest.raises(InputError, match="ReadFile, api_implements, api_preferred_device"):
        ExportedModel(path)


@pytest.mark.parametrize("attribute", ["api_implements", "api_preferred_device"])
def test_what_selects_another_function_is_refused_without_harm(plain: Path, attribute: str) -> None:
    # On a function the selector finds it; on a node TensorFlow may copy it to a function.
    def mark_function(graph: MetaGraphDef) -> None:
        graph.graph_def.library.function[0].attr[attribute].s = b"answer"

    def mark_node(graph: MetaGraphDef) -> None:
        graph.graph_def.library.function[0].node_def[0].attr[attribute].s = b"answer"

    for mark in (mark_function, mark_node):
        content = (plain / "saved_model.pb").read_bytes()
        with pytest.raises(InputError, match=rf"holds {attribute},"):
            check_saved_model(edit(plain, mark))
        (plain / "saved_model.pb").write_bytes(content)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Module(lambda: None), tmp_path_factory.mktemp("harmless") / "model")


@pytest.fixture
def plain(harmless: Path, tmp_path: Path) -> Path:
    """A harmless SavedModel to change."""
    return Path(shutil.copytree(harmless, tmp_path / "plain"))


def serving(graph: MetaGraphDef) -> FunctionDef:
    """Returns the function that answers."""
    return next(
        function
        for function in graph.graph_def.library.function
        if "inference_serve" in function.signature.name
    )


def saver(graph: MetaGraphDef) -> FunctionDef:
    """Returns the function by which TensorFlow restores the weights."""
    return next(
        function
        for function in graph.graph_def.library.function
        if "traced_restore" in function.signature.name
    )


def call(graph: MetaGraphDef, name: str) -> NodeDef:
    """Adds a call of a function."""
    node = serving(graph).node_def.add(name="call", op="StatefulPartitionedCall")
    node.attr["f"].func.name = name
    return node


def call_the_saver(graph: MetaGraphDef) -> None:
    call(graph, saver(graph).signature.name)


def call_the_saver_as_an_argument(graph: MetaGraphDef) -> None:
    node = call(graph, serving(graph).signature.name)
    node.attr["f"].func.attr["g"].func.name = saver(graph).signature.name


def call_the_saver_in_a_list(graph: MetaGraphDef) -> None:
    node = serving(graph).node_def.add(name="call", op="StatefulPartitionedCall")
    node.attr["f"].list.func.add(name=saver(graph).signature.name)


def call_the_saver_as_an_op(graph: MetaGraphDef) -> None:
    name = saver(graph).signature.name
    for node in graph.graph_def.node:
        if node.attr["f"].func.name == name:
            node.attr["f"].func.name = "Tanh"
    saver(graph).signature.name = "Tanh"
    serving(graph).node_def.add(name="call", op="Tanh")


def call_the_saver_from_an_object(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes.add().function.concrete_functions.append(
        saver(graph).signature.name
    )


def write_in_the_saver(graph: MetaGraphDef) -> None:
    saver(graph).node_def.add(name="harm", op="WriteFile")


def write_in_a_function_that_nothing_names(graph: MetaGraphDef) -> None:
    function = graph.graph_def.library.function.add()
    function.signature.name = "unnamed"
    function.node_def.add(name="harm", op="WriteFile")


def hide_an_op_behind_a_function(graph: MetaGraphDef) -> None:
    graph.graph_def.library.function.add().signature.name = "WriteFile"
    serving(graph).node_def.add(name="harm", op="WriteFile")


def define_a_function_twice(graph: MetaGraphDef) -> None:
    graph.graph_def.library.function.add().CopyFrom(serving(graph))


def call_a_function_of_another_model(graph: MetaGraphDef) -> None:
    call(graph, "__inference__traced_save_65")


def replace_a_function_by_a_gradient(graph: MetaGraphDef) -> None:
    name = serving(graph).signature.name
    graph.graph_def.library.gradient.add(function_name=name, gradient_func=name)


def register_a_gradient(graph: MetaGraphDef) -> None:
    graph.graph_def.library.registered_gradients.add(
        gradient_func=saver(graph).signature.name, registered_op_type="CustomGradient-1"
    )


def leave_a_function_open(graph: MetaGraphDef) -> None:
    node = serving(graph).node_def.add(name="call", op="StatefulPartitionedCall")
    node.attr["f"].placeholder = "g"


def run_on_another_machine(graph: MetaGraphDef) -> None:
    serving(graph).node_def[0].device = "/job:worker/task:1/device:CPU:0"


def set_options(graph: MetaGraphDef, config: ConfigProto) -> None:
    call(graph, serving(graph).signature.name).attr["config_proto"].s = config.SerializeToString()


def name_an_optimizer(graph: MetaGraphDef) -> None:
    config = ConfigProto()
    config.graph_options.rewrite_options.custom_optimizers.add(name="harm")
    set_options(graph, config)


def name_a_cluster(graph: MetaGraphDef) -> None:
    config = ConfigProto()
    config.cluster_def.job.add(name="worker").tasks[0] = "example.org:2222"
    set_options(graph, config)


def damage_options(graph: MetaGraphDef) -> None:
    call(graph, serving(graph).signature.name).attr["config_proto"].s = b"\xff"


def name_a_resource(graph: MetaGraphDef) -> None:
    node = serving(graph).node_def.add(name="resource", op="Const")
    node.attr["dtype"].type = DT_RESOURCE
    node.attr["value"].tensor.dtype = DT_RESOURCE
    node.attr["value"].tensor.resource_handle_val.add(name="another model's variable")


def compile_it(graph: MetaGraphDef) -> None:
    serving(graph).attr["_XlaMustCompile"].b = True


def mark_an_argument(graph: MetaGraphDef) -> None:
    serving(graph).arg_attr[0].attr["_arg_shared_name"].s = b"harm"


def read_an_asset(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes.add().asset.asset_file_def_index = 0
    graph.asset_file_def.add(filename="../../../etc/passwd")


def make_a_registered_class(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes.add(
        registered_name="tf.StaticHashTable"
    ).user_object.identifier = "_generic_user_object"


def save_by_a_registered_class(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes[0].registered_saver = "Custom.saver"


def make_a_known_class(graph: MetaGraphDef) -> None:
    graph.object_graph_def.nodes.add().user_object.identifier = "optimizer"


FORGERIES = {
    call_the_saver: "a call of __inference__traced_restore",
    call_the_saver_as_an_argument: r"a call of \w+ with attributes",
    call_the_saver_in_a_list: "a call of __inference__traced_restore",
    call_the_saver_as_an_op: "a function named Tanh",
    call_the_saver_from_an_object: "a call of __inference__traced_restore",
    write_in_the_saver: "WriteFile",
    write_in_a_function_that_nothing_names: "WriteFile",
    hide_an_op_behind_a_function: "WriteFile, a function named WriteFile",
    define_a_function_twice: "two functions named __inference_serve",
    call_a_function_of_another_model: "a call of __inference__traced_save_65",
    replace_a_function_by_a_gradient: "gradient functions",
    register_a_gradient: "gradient functions",
    leave_a_function_open: "the placeholder g",
    run_on_another_machine: "the device /job:worker/task:1/device:CPU:0",
    name_an_optimizer: "custom_optimizers",
    name_a_cluster: "cluster_def",
    damage_options: "a damaged config_proto",
    name_a_resource: "a constant that is no number or text",
    compile_it: "_XlaMustCompile",
    mark_an_argument: "_arg_shared_name",
    read_an_asset: "an object of kind asset",
    make_a_registered_class: r"an object of class tf\.StaticHashTable",
    save_by_a_registered_class: r"an object of class Custom\.saver",
    make_a_known_class: "an object of type optimizer",
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_graph_is_refused_by_what_it_holds(
    plain: Path, forge: Callable[[MetaGraphDef], None]
) -> None:
    check_saved_model(plain)
    with pytest.raises(InputError, match=f"not loaded: it holds {FORGERIES[forge]}"):
        check_saved_model(edit(plain, forge))


def test_a_second_graph_is_refused(plain: Path) -> None:
    file = plain / "saved_model.pb"
    saved_model = SavedModel.FromString(file.read_bytes())
    saved_model.meta_graphs.add().CopyFrom(saved_model.meta_graphs[0])
    file.write_bytes(saved_model.SerializeToString())
    with pytest.raises(InputError, match="not made by TensorFlow 2"):
        check_saved_model(plain)


def test_the_files_that_are_loaded_are_those_that_were_checked(plain: Path, tmp_path: Path) -> None:
    harmful = save(Module(lambda: write_file(str(tmp_path / "harm"))), tmp_path / "harmful")
    with checked_copy(plain) as copy:
        # Somebody exchanges the file in the meantime, and adds one of the other names.
        shutil.copy(harmful / "saved_model.pb", plain)
        shutil.copy(harmful / "saved_model.pb", plain / "saved_model.cpb")
        (plain / "saved_model.pbtxt").touch()
        assert sorted(path.name for path in copy.iterdir()) == ["saved_model.pb", "variables"]
        loaded = tf.saved_model.load(str(copy))
    loaded.signatures["serving_default"](inputs=tf.constant(["a"]))
    assert not (tmp_path / "harm").exists()
    assert not copy.exists()


def test_a_named_pipe_is_no_saved_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "saved_model.pb")
    with pytest.raises(InputError, match=r"holds no saved_model\.pb"):
        check_saved_model(tmp_path)


def test_a_function_outside_the_signature_is_looked_at_too(tmp_path: Path) -> None:
    module = Module(lambda: None)
    module.other = tf.function(lambda: write_file("harm"), input_signature=[])
    with pytest.raises(InputError, match="WriteFile"):
        check_saved_model(save(module, tmp_path / "model"))


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
        check_saved_model(save(module, tmp_path / "model"))


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
        check_saved_model(path)


def test_a_file_of_tensorflow_1_is_refused(tmp_path: Path) -> None:
    path = save(Module(lambda: None), tmp_path / "model")
    saved_model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    saved_model.meta_graphs[0].ClearField("object_graph_def")
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    with pytest.raises(InputError, match="not made by TensorFlow 2"):
        check_saved_model(path)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_saved_model_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match=r"holds no saved_model\.pb.*s2s export"):
        check_saved_model(tmp_path / folder)


@pytest.mark.parametrize("content", [b"no protocol buffer", b"\x0a"])
def test_a_file_that_is_no_saved_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        check_saved_model(tmp_path)
