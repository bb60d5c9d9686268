"""The tree of a beam search, against the search's outputs and the scorer's log-probabilities."""

from typing import Any

import pytest

from seq2seq_kit import insight
from seq2seq_kit.errors import InputError
from seq2seq_kit.insight.beams import BeamNode, BeamTree
from seq2seq_kit.seq2seq import Seq2Seq

BEAM = {"beam_size": 3, "max_length": 6}


@pytest.fixture(scope="module")
def tree(deep_model: Seq2Seq) -> BeamTree:
    return insight.beam_tree(deep_model, "abba", **BEAM)


def path(tree: BeamTree, node: BeamNode) -> list[BeamNode]:
    above = [] if node.parent is None else path(tree, tree.nodes[node.parent])
    return [*above, node]


def test_best_path_is_the_output_and_its_score(deep_model: Seq2Seq, tree: BeamTree) -> None:
    ((best,),) = deep_model.hypotheses(["abba"], **BEAM)
    assert tree.output == best.text
    *_, last = [node for node in tree.nodes if node.is_best]
    assert (last.text, last.score, last.fate) == (best.text, best.score, "finished")
    assert last.score == max(node.score for node in tree.nodes if node.score is not None)
    assert [node for node in path(tree, last) if not node.is_best] == []
    pieces = deep_model.tokenizer.pieces
    assert [node.token for node in path(tree, last)[1:]] == [pieces[i] for i in best.token_ids]


def test_nodes_have_the_log_probabilities_of_their_tokens(
    deep_model: Seq2Seq, tree: BeamTree
) -> None:
    (source,) = deep_model.inputs.encode_rows(["abba"])
    pieces = deep_model.tokenizer.pieces
    paths = [[pieces.index(one.token) for one in path(tree, node)[1:]] for node in tree.nodes]
    open_nodes = [n for n, node in enumerate(tree.nodes) if node.score is None and n]
    scores = deep_model.scorer.score_ids([source] * len(open_nodes), [paths[n] for n in open_nodes])
    assert len(open_nodes) > BEAM["beam_size"]
    for place, score in zip(open_nodes, scores, strict=True):
        assert tree.nodes[place].log_prob == pytest.approx(score.log_prob, abs=1e-4)
    assert len(set(map(tuple, paths))) == len(paths)


def test_steps_and_fates(tree: BeamTree) -> None:
    extended = {node.parent for node in tree.nodes} - {None}
    for place, node in enumerate(tree.nodes):
        assert node.parent is None or node.parent < place
        assert node.step == len(path(tree, node)) - 1
        assert (place in extended) == (node.fate == "extended") or node.fate == "finished"
        assert node.fate != "finished" or node.score is not None
    for step in range(1, BEAM["max_length"] + 1):
        going_on = [node for node in tree.nodes if node.step == step and node.token != "</s>"]
        assert len(going_on) <= BEAM["beam_size"]
    assert {node.fate for node in tree.nodes} >= {"extended", "finished", "pruned"}


def test_tree_of_a_continuation_begins_after_its_prompt(continuation_run: Any) -> None:
    writer = continuation_run.fitted
    tree = insight.beam_tree(writer, "one two th", beam_size=2)
    assert tree.output == writer.generate(["one two th"], beam_size=2)[0]
    assert tree.output.startswith("ree four")


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"sample": True}, {"beam_sise": 3}])
def test_what_has_no_tree_is_refused(deep_model: Seq2Seq, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"Only beam search has a tree|unknown option"):
        insight.beam_tree(deep_model, "ab", **options)
    with pytest.raises(InputError, match="Pass a text"):
        insight.beam_tree(deep_model, "", beam_size=2)
