"""GENERator's 6-mers against the published tokenizer's own pieces and ids, and published vocabularies on disk."""

import json
import random

import numpy as np
import pytest

from encoders.generator_tokenizer import BOS, KMERS, OOV, SPECIALS, VOCABULARY, encode, kmer_ids, read_vocabulary, tokenize


@pytest.fixture(scope="session")
def published(shared_dir):
    return shared_dir / "golden" / "generator_tiny"


@pytest.fixture
def write(tmp_path):
    """Writes lines as a vocab.txt; returns its path."""

    def write(lines):
        (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
        return tmp_path / "vocab.txt"

    return write


def with_ids(vocabulary):
    return [f"{token} {i}" for token, i in vocabulary.items()]


def test_tokens_and_ids_equal_the_published_tokenizer(published):
    cases = json.loads((published / "tokenizer_golden.json").read_text())
    reported = cases.pop("_hub_reported")
    assert len(cases) == 25
    for case in cases.values():
        assert tokenize(case["text"]) == case["tokens"]
        assert encode(case["text"]) == case["ids_official_tokenize"] == case["ids_hf_call_add_special_tokens_False"]
    for case in reported:  # the hub's default puts one more <s> in front; nothing is ever added here
        assert [BOS, *encode(case["text"])] == case["ids_default_call"]


def test_vocabulary_is_the_published_file_line_for_line(published):
    assert with_ids(VOCABULARY) == (published / "vocab.txt").read_text().splitlines()
    assert read_vocabulary(published / "vocab.txt") == VOCABULARY
    assert (OOV, BOS, VOCABULARY["AAAAAT"], VOCABULARY["TTTTTT"], VOCABULARY["GGGGGG"]) == (0, 1, 33, 1397, 4127)


def test_kmer_ids_equal_the_tokenizer_on_random_dna_with_n():
    rng = random.Random(0)
    sequences = ["".join(rng.choices("ACGTN", weights=(9, 9, 9, 9, 2), k=300)) for _ in range(20)]
    ids = kmer_ids(sequences)
    assert ids.dtype == np.int64 and ids.shape == (20, 50)
    assert ids.tolist() == [encode(sequence) for sequence in sequences]
    assert 0 < (ids == OOV).mean() < 1
    assert kmer_ids(list(KMERS)).ravel().tolist() == list(range(32, 4128))


@pytest.mark.parametrize(("sequences", "lengths"), [(["ACGTACG"], r"\[7\]"), (["ACGTAC", "ACGTACACGTAC"], r"\[6, 12\]")])
def test_kmer_ids_refuses_what_would_leave_a_short_tail_or_is_ragged(sequences, lengths):
    with pytest.raises(ValueError, match=rf"must have one length, a multiple of 6; got {lengths} bases\.\n  fix:"):
        kmer_ids(sequences)


def test_read_vocabulary_takes_the_older_form_with_other_tokens_behind_the_first_eleven(write):
    older = [*SPECIALS[:11], *(f"<other{i}>" for i in range(21)), *KMERS]
    vocabulary = read_vocabulary(write(older))
    assert list(vocabulary) == older
    assert all(vocabulary[kmer] == VOCABULARY[kmer] for kmer in KMERS)


def test_read_vocabulary_takes_lines_with_ids_in_any_order(write):
    assert read_vocabulary(write(reversed(with_ids(VOCABULARY)))) == VOCABULARY


def test_read_vocabulary_lists_tokens_that_have_other_ids(write):
    swapped = list(VOCABULARY)
    swapped[32], swapped[33] = swapped[33], swapped[32]
    path = write(swapped)
    with pytest.raises(ValueError, match=rf"published ids; faults: 2\n  AAAAAA has id 33, not 32\n(.|\n)*file: {path}\n  fix:"):
        read_vocabulary(path)
    in_acgt_order = [*SPECIALS, *sorted(KMERS)]
    with pytest.raises(ValueError, match=r"(.|\n)*AAAAAC has id 33, not 34\n(.|\n)*… and \d{4} more"):
        read_vocabulary(write(in_acgt_order))


def test_read_vocabulary_lists_tokens_that_are_missing(write):
    with pytest.raises(ValueError, match=r"faults: 1\n  GGGGGG is missing, id 4127 expected\n"):
        read_vocabulary(write(list(VOCABULARY)[:-1]))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("AAAAAA", "line 2 is 'AAAAAA', not a token and its id"),
        ("AAAAAA x", "line 2 is 'AAAAAA x', not a token and its id"),
        ("", "line 2 is '', not a token and its id"),
        ("<oov> 7", "line 2 gives <oov> the id 7; one of the two was there before"),
        ("<s> 0", "line 2 gives <s> the id 0; one of the two was there before"),
    ],
)
def test_read_vocabulary_lists_lines_that_are_of_no_published_form(write, line, fault):
    with pytest.raises(ValueError, match=rf"faults: 1\n  {fault}\n"):
        read_vocabulary(write(["<oov> 0", line]))


@pytest.mark.parametrize("text", ["", "<oov>\n<s> 1\n"])
def test_read_vocabulary_refuses_an_empty_file_and_mixed_forms(tmp_path, text):
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(ValueError, match="must give GENERator's tokens their published ids; faults: "):
        read_vocabulary(tmp_path / "vocab.txt")


def test_read_vocabulary_says_that_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"must lie beside its weights; there is none\.\n  file: {tmp_path}/vocab.txt\n"):
        read_vocabulary(tmp_path / "vocab.txt")
