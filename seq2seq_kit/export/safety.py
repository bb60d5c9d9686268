"""Checks a SavedModel before it is loaded: a graph can write files, or run programs.

TensorFlow says of it: "loading one is running a program". So everything in the file is held
against a list of what a string-to-string search needs, whether or not anything refers to it, and
the rest is refused by name. TensorFlow then loads the bytes that were checked, from a folder of
this process's own.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_RESOURCE, DT_VARIANT
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.saved_object_graph_pb2 import SavedObjectGraph
from tensorflow.python.framework import op_def_registry

from seq2seq_kit import bounds
from seq2seq_kit.errors import InputError
from seq2seq_kit.files import why_not_regular

_GRAPH_FILE = "saved_model.pb"

# What exports of this package are made of: arithmetic, shapes, control flow, variables, and the
# tokenizer. None of these reads or writes a file, runs code or opens a connection.
# fmt: off
_ALLOWED_OPS = frozenset(
    {
        "Abs", "AddN", "AddV2", "All", "Any", "ArgMax", "Assert", "AssignVariableOp",
        "BatchMatMulV2", "BatchMatMulV3", "BiasAdd", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
        "BroadcastArgs", "BroadcastTo", "Cast", "Ceil", "ConcatV2", "Const", "Cumsum",
        "DisableCopyOnRead", "Einsum", "EnsureShape", "Equal", "Exp", "ExpandDims", "Fill", "Floor",
        "FloorDiv", "FloorMod", "GatherNd", "GatherV2", "Greater", "GreaterEqual", "Identity",
        "IdentityN", "If", "LeftShift", "Less", "LessEqual", "Log", "Log1p", "LogSoftmax",
        "LogicalAnd", "LogicalNot", "LogicalOr", "LoopCond", "LowerBound", "MatMul", "Max",
        "Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "NoOp", "NormalizeUTF8", "NotEqual",
        "OneHot", "OnesLike", "Pack", "Pad", "PadV2", "PartitionedCall", "Placeholder", "Pow",
        "Prod", "RaggedGather", "RaggedRange", "RaggedTensorToTensor", "Range", "Rank",
        "ReadVariableOp", "RealDiv", "Relu", "Reshape", "ReverseSequence", "ReverseV2",
        "RightShift", "Rsqrt", "ScatterNd", "Select", "SelectV2", "SentencepieceDetokenizeOp",
        "SentencepieceOp", "SentencepieceTokenizeOp", "Shape", "Sigmoid", "Size", "Slice",
        "Softmax", "Split", "SplitV", "Sqrt", "Square", "Squeeze", "StatefulPartitionedCall",
        "StatelessIf", "StatelessWhile", "StaticRegexReplace", "StopGradient", "StridedSlice",
        "StringLength", "StringToHashBucketFast", "Sub", "Substr", "Sum", "Tanh",
        "TensorListFromTensor", "TensorListGetItem", "TensorListReserve", "TensorListSetItem",
        "TensorListStack", "TensorScatterAdd", "TensorScatterMin", "TensorScatterUpdate", "Tile",
        "TopKV2", "Transpose", "UnicodeTranscode", "Unique", "Unpack", "UnsortedSegmentSum",
        "VarHandleOp", "Where", "While", "ZerosLike",
    }
)
# fmt: on

# What the two functions need by which TensorFlow saves and restores weights; they are part of every
# SavedModel. Loading from Python runs neither, and nothing may refer to them.
_SAVER_OPS = frozenset(
    {
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    }
)

# Attributes that no op defines and TensorFlow adds. Others steer what runs: by `api_implements` the
# implementation selector replaces a function by one that nothing refers to.
_NODE_ATTRIBUTES = frozenset(
    {
        "_class",
        "_collective_manager_ids",
        "_gradient_op_type",
        "_has_manual_control_dependencies",
        "_lower_using_switch_merge",
        "_num_original_outputs",
        "_output_shapes",
        "_read_only_resource_inputs",
    }
)
_FUNCTION_ATTRIBUTES = frozenset({"_construction_context", "_input_shapes"})
_ARGUMENT_ATTRIBUTES = frozenset({"_output_shapes", "_user_specified_name"})

# Of the session options that a call carries: numbers and switches. Others name optimizers to run,
# or other machines.
_CONFIG_FIELDS = frozenset(
    {
        "allow_soft_placement",
        "device_count",
        "experimental",
        "gpu_options",
        "graph_options",
        "inter_op_parallelism_threads",
        "intra_op_parallelism_threads",
        "log_device_placement",
        "pluggable_device_options",
    }
)

# A constant of these could be another model's variable, or an object for TensorFlow to decode.
_NO_NUMBERS = (DT_RESOURCE, DT_VARIANT)

# Never another machine's.
_DEVICE = re.compile(r"(/device:(CPU|GPU):(\d+|\*))?")

# Python objects that loading makes; others, such as assets and registered classes, run code of
# their own or read files.
_OBJECT_KINDS = frozenset(
    {
        "bare_concrete_function",
        "captured_tensor",
        "constant",
        "function",
        "resource",
        "user_object",
        "variable",
    }
)
_USER_OBJECTS = frozenset(
    {
        "_generic_user_object",
        "signature_map",
        "trackable_dict_wrapper",
        "trackable_list_wrapper",
        "trackable_tuple_wrapper",
    }
)


@contextmanager
def checked_copy(path: Path) -> Iterator[Path]:
    """Checks a SavedModel and yields a folder from which TensorFlow loads what was checked.

    The graph in it is written from the bytes that were checked, so nobody can exchange it between
    check and loading. The variables are those of `path`, by a link: they are numbers, however they
    were made. Nothing else of `path` is in it.

    Args:
        path: The folder of the SavedModel.

    Raises:
        InputError: If the folder holds none, or one with something that no export needs.
    """
    graph = check_saved_model(path)
    for file in sorted((path / "variables").glob("*")):
        if reason := why_not_regular(file):
            raise InputError(f"{file} cannot be read ({reason}). Export the run again.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _GRAPH_FILE).write_bytes(graph)
        (folder / "variables").symlink_to((path / "variables").resolve())
        yield folder


def check_saved_model(path: Path) -> bytes:
    """Returns the graph of a SavedModel if it can be loaded and called without harm.

    Args:
        path: The folder of the SavedModel.

    Returns:
        The bytes of `saved_model.pb`, which were checked.

    Raises:
        InputError: If the folder holds none, or one with something that no export needs.
    """
    graph, content = _read(path)
    if forbidden := sorted(set(_forbidden(graph))):
        raise InputError(
            f"The SavedModel in {path} was not loaded: it holds {', '.join(forbidden)}, which "
            f"no export of this package needs and which could run or write anything. Export "
            f"the run again, or load it yourself if you trust its maker."
        )
    return content


def _read(path: Path) -> tuple[MetaGraphDef, bytes]:
    """Returns the only graph of a SavedModel, and the bytes that hold it."""
    file = path / _GRAPH_FILE
    if not file.is_file():  # A named pipe would never end.
        raise InputError(
            f"Expected the folder of a SavedModel. Received: {path}, which holds no {file.name}. "
            f"Make one with `s2s export RUN DIR`."
        )
    if file.stat().st_size > bounds.MAX_GRAPH_BYTES:
        raise InputError(f"{file} cannot be read (it is too large). Export the run again.")
    try:
        content = file.read_bytes()
        graphs = SavedModel.FromString(content).meta_graphs
    except (OSError, DecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}). Export the run again.") from error
    # TensorFlow runs the saver's function of a file made by version 1, for which it takes every
    # file without objects or with several graphs.
    if len(graphs) != 1 or not graphs[0].object_graph_def.nodes:
        raise InputError(
            f"The SavedModel in {path} was not loaded: it was not made by TensorFlow 2. "
            f"Make one with `s2s export RUN DIR`."
        )
    return graphs[0], content


def _forbidden(graph: MetaGraphDef) -> Iterator[str]:
    """Yields a name for each thing in a graph that no export needs."""
    library = graph.graph_def.library
    savers = _saver_functions(graph)
    defined = Counter(function.signature.name for function in library.function)
    callable_functions = set(defined) - savers
    yield from (f"two functions named {name}" for name, count in defined.items() if count > 1)
    # A node of that op would be a call, of the saver's functions too.
    yield from (f"a function named {name}" for name in defined if op_def_registry.get(name))
    if library.gradient or library.registered_gradients:
        yield "gradient functions"
    for function in library.function:
        is_saver = function.signature.name in savers
        yield from _forbidden_in_nodes(
            function.node_def, _ALLOWED_OPS | _SAVER_OPS if is_saver else _ALLOWED_OPS
        )
        yield from _forbidden_calls(function.node_def, callable_functions)
        yield from function.attr.keys() - _FUNCTION_ATTRIBUTES
        for argument in function.arg_attr.values():
            yield from argument.attr.keys() - _ARGUMENT_ATTRIBUTES
    saver_nodes = _saver_nodes(graph)
    yield from _forbidden_in_nodes(graph.graph_def.node, _ALLOWED_OPS)
    yield from _forbidden_calls(
        (node for node in graph.graph_def.node if node.name not in saver_nodes),
        callable_functions,
    )
    yield from _forbidden_objects(graph.object_graph_def, callable_functions)


def _saver_nodes(graph: MetaGraphDef) -> set[str]:
    """Returns the names of the nodes of the main graph that save and restore the weights."""
    saver = graph.saver_def
    return {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}


def _saver_functions(graph: MetaGraphDef) -> set[str]:
    """Returns the names of the functions that save and restore the weights."""
    names = _saver_nodes(graph)
    return {node.attr["f"].func.name for node in graph.graph_def.node if node.name in names}


def _forbidden_in_nodes(nodes: Iterable[NodeDef], allowed_ops: frozenset[str]) -> Iterator[str]:
    """Yields the ops, attributes and devices of nodes that no export needs."""
    for node in nodes:
        op = op_def_registry.get(node.op)
        if op is None or node.op not in allowed_ops:
            yield node.op
            continue
        yield from node.attr.keys() - {attr.name for attr in op.attr} - _NODE_ATTRIBUTES
        if not _DEVICE.fullmatch(node.device):
            yield f"the device {node.device}"
        if node.op == "Const" and node.attr["dtype"].type in _NO_NUMBERS:
            yield "a constant that is no number or text"
        if "config_proto" in node.attr:
            yield from _forbidden_options(node.attr["config_proto"].s)


def _forbidden_options(config_proto: bytes) -> Iterator[str]:
    """Yields the session options of a call that no export needs."""
    try:
        config = ConfigProto.FromString(config_proto)
    except DecodeError:
        yield "a damaged config_proto"
        return
    yield from {field.name for field, _ in config.ListFields()} - _CONFIG_FIELDS
    rewriting = config.graph_options.rewrite_options
    if rewriting.optimizers or rewriting.custom_optimizers:
        yield "custom_optimizers"


def _forbidden_calls(nodes: Iterable[NodeDef], functions: set[str]) -> Iterator[str]:
    """Yields what nodes call but for functions of the file that are not the saver's.

    Args:
        nodes: Of the main graph or of a function.
        functions: The names of the functions that may be called.
    """
    for node in nodes:
        for value in node.attr.values():
            yield from _forbidden_values(value, functions)


def _forbidden_values(value: AttrValue, functions: set[str]) -> Iterator[str]:
    if value.WhichOneof("value") == "placeholder":
        yield f"the placeholder {value.placeholder}"
    called = [*value.list.func, *([value.func] if value.HasField("func") else [])]
    for function in called:
        # Another model in this process may have such a function.
        if function.name not in functions:
            yield f"a call of {function.name}"
        # TensorFlow does not look for functions there when it renames those of a file.
        if function.attr:
            yield f"a call of {function.name} with attributes"


def _forbidden_objects(objects: SavedObjectGraph, functions: set[str]) -> Iterator[str]:
    """Yields the Python objects that no export needs, and calls of functions not its own."""
    named = list(objects.concrete_functions)
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _OBJECT_KINDS:
            yield f"an object of kind {kind}"
        if node.HasField("user_object") and node.user_object.identifier not in _USER_OBJECTS:
            yield f"an object of type {node.user_object.identifier}"
        # TensorFlow's own class of a constant, which is a number array.
        is_constant = kind == "constant" and node.registered_name == "tf.TrackableConstant"
        if (node.registered_name and not is_constant) or node.registered_saver:
            yield f"an object of class {node.registered_name or node.registered_saver}"
        for device in (node.variable.device, node.resource.device):
            if not _DEVICE.fullmatch(device):
                yield f"the device {device}"
        named += node.function.concrete_functions
        if node.HasField("bare_concrete_function"):
            named.append(node.bare_concrete_function.concrete_function_name)
        if node.HasField("captured_tensor"):
            named.append(node.captured_tensor.concrete_function)
    yield from (f"a call of {name}" for name in named if name not in functions)
