"""A look inside a trained model: attention, gates, states, surprise, alignments, interventions.

Made for `Seq2Seq`, of a run or a packaged model, and for `ExportedModel`. The names are loaded on
first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seq2seq_kit.insight.alignments import Aligner, Alignment
    from seq2seq_kit.insight.beams import BeamNode, BeamTree, beam_tree
    from seq2seq_kit.insight.choices import Alternative, alternatives
    from seq2seq_kit.insight.interventions import ForcedAttention, Intervention, intervene
    from seq2seq_kit.insight.neighbors import Neighbor, TrainingIndex
    from seq2seq_kit.insight.plots import plot_attention, plot_gates, plot_history
    from seq2seq_kit.insight.probes import Probe, probe
    from seq2seq_kit.insight.scores import Omissions, Surprise, leave_out, surprise
    from seq2seq_kit.insight.tracing import LayerTrace, Trace, trace

__all__ = [
    "Aligner",
    "Alignment",
    "Alternative",
    "BeamNode",
    "BeamTree",
    "ForcedAttention",
    "Intervention",
    "LayerTrace",
    "Neighbor",
    "Omissions",
    "Probe",
    "Surprise",
    "Trace",
    "TrainingIndex",
    "alternatives",
    "beam_tree",
    "intervene",
    "leave_out",
    "plot_attention",
    "plot_gates",
    "plot_history",
    "probe",
    "surprise",
    "trace",
]

_MODULES = {
    "Aligner": "alignments",
    "Alignment": "alignments",
    "Alternative": "choices",
    "BeamNode": "beams",
    "BeamTree": "beams",
    "ForcedAttention": "interventions",
    "Intervention": "interventions",
    "LayerTrace": "tracing",
    "Neighbor": "neighbors",
    "Omissions": "scores",
    "Probe": "probes",
    "Surprise": "scores",
    "Trace": "tracing",
    "TrainingIndex": "neighbors",
    "alternatives": "choices",
    "beam_tree": "beams",
    "intervene": "interventions",
    "leave_out": "scores",
    "plot_attention": "plots",
    "plot_gates": "plots",
    "plot_history": "plots",
    "probe": "probes",
    "surprise": "scores",
    "trace": "tracing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seq2seq_kit.startup import load_tensorflow

    load_tensorflow()
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # The next use finds it here.
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
