"""Looks through a SavedModel before it is loaded: a graph can write files, or run programs.

TensorFlow says of it: "loading one is running a program". So every op that a call or the loading
itself could run is held against a list of what a string-to-string search needs; anything else is
refused by name. Reads the protocol buffer only and loads nothing.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from seq2seq_kit.errors import InputError

# What exports of this package are made of: arithmetic, shapes, control flow, variables, and the
# tokenizer. None of these reads or writes a file, runs code or opens a connection.
# fmt: off
_ALLOWED_OPS = frozenset(
    {
        "Abs", "AddN", "AddV2", "All", "Any", "ArgMax", "Assert", "AssignVariableOp",
        "BatchMatMulV2", "BatchMatMulV3", "BiasAdd", "BroadcastArgs", "BroadcastTo", "Cast", "Ceil",
        "ConcatV2", "Const", "Cumsum", "DisableCopyOnRead", "Einsum", "Equal", "Exp",
        "ExpandDims", "Fill", "Floor", "FloorDiv", "FloorMod", "GatherNd", "GatherV2",
        "Greater", "GreaterEqual", "Identity", "IdentityN", "If", "Less", "LessEqual", "Log",
        "Log1p", "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "LoopCond", "MatMul",
        "Max", "Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "NoOp", "NotEqual",
        "OneHot", "OnesLike", "Pack", "Pad", "PadV2", "PartitionedCall", "Placeholder", "Pow",
        "Prod", "RaggedGather", "RaggedRange", "RaggedTensorToTensor", "Range", "Rank",
        "ReadVariableOp", "RealDiv", "Relu", "Reshape", "ReverseSequence", "ReverseV2", "Rsqrt",
        "ScatterNd", "Select", "SelectV2", "SentencepieceDetokenizeOp", "SentencepieceOp",
        "SentencepieceTokenizeOp", "Shape", "Sigmoid", "Size", "Slice", "Softmax", "Split",
        "SplitV", "Sqrt", "Square", "Squeeze", "StatefulPartitionedCall", "StatelessIf",
        "StatelessWhile", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh",
        "TensorListFromTensor", "TensorListGetItem", "TensorListReserve", "TensorListSetItem",
        "TensorListStack", "TensorScatterAdd", "TensorScatterUpdate", "Tile", "TopKV2",
        "Transpose", "Unique", "Unpack", "VarHandleOp", "Where", "While", "ZerosLike",
    }
)
# fmt: on


def check_ops(path: Path) -> None:
    """Returns if a SavedModel can be loaded and called without harm.

    The functions by which TensorFlow saves and restores weights do touch files. They are part of
    every SavedModel; loading does not run them, and nothing else may call them.

    Args:
        path: The folder of the SavedModel.

    Raises:
        InputError: If the folder holds none, or one with an op that is not on the list.
    """
    for graph in _read(path).meta_graphs:
        if not graph.object_graph_def.nodes:
            # TensorFlow would run the restoring function of such a file, made by version 1.
            raise InputError(
                f"The SavedModel in {path} was not loaded: it was not made by TensorFlow 2. "
                f"Make one with `s2s export RUN DIR`."
            )
        forbidden = sorted(_ops_in_use(graph) - _ALLOWED_OPS)
        if forbidden:
            raise InputError(
                f"The SavedModel in {path} was not loaded: it holds {', '.join(forbidden)}, which "
                f"no export of this package needs and which could run or write anything. Export "
                f"the run again, or load it yourself if you trust its maker."
            )


def _read(path: Path) -> SavedModel:
    file = path / "saved_model.pb"
    saved_model = SavedModel()
    try:
        saved_model.ParseFromString(file.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"Expected the folder of a SavedModel. Received: {path}, which holds no {file.name}. "
            f"Make one with `s2s export RUN DIR`."
        ) from error
    except (OSError, DecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}). Export the run again.") from error
    return saved_model


def _ops_in_use(graph: MetaGraphDef) -> set[str]:
    """Returns the names of all ops that loading or calling could run."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    objects = graph.object_graph_def
    waiting = [
        *_calls(_nodes_without_saver(graph), functions),
        *objects.concrete_functions,
        # Forged files may leave a function out of that table and still name it in an object.
        *(node.bare_concrete_function.concrete_function_name for node in objects.nodes),
        *(name for node in objects.nodes for name in node.function.concrete_functions),
    ]
    ops = {node.op for node in _nodes_without_saver(graph)}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        nodes = functions[name].node_def
        ops |= {node.op for node in nodes}
        waiting += _calls(nodes, functions)
    return ops - set(functions)


def _nodes_without_saver(graph: MetaGraphDef) -> list[NodeDef]:
    """Returns the nodes of the main graph but for the two that save and restore the weights."""
    saver = graph.saver_def
    names = {saver.save_tensor_name.partition(":")[0], saver.restore_op_name}
    return [node for node in graph.graph_def.node if node.name not in names]


def _calls(nodes: Iterable[NodeDef], functions: Iterable[str]) -> list[str]:
    """Returns the names of the functions that nodes call, as their op or in an attribute."""
    known = set(functions)
    names = [node.op for node in nodes if node.op in known]
    for node in nodes:
        for value in node.attr.values():
            names += _functions_in(value)
    return [name for name in names if name]


def _functions_in(value: AttrValue) -> Iterator[str]:
    """Yields the functions that an attribute names, those given to others as attributes too."""
    for function in (value.func, *value.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _functions_in(inner)
