"""Tests of the questions' room: ids, vectors and numbers in any form, and each refusal."""

import numpy as np
import pytest
import torch

from brainmt_align.evaluation.questions import list_ids, require_whole, to_float, unit_vectors


def test_list_ids_takes_one_or_several():
    assert list_ids("0001") == ["0001"] and list_ids(np.array(["a", "b"])) == ["a", "b"] and list_ids(iter([1])) == ["1"]


@pytest.mark.parametrize("ids", [1, None, 2.5])
def test_list_ids_refuses_what_is_neither_text_nor_a_list(ids):
    with pytest.raises(ValueError, match=rf"(?s)expected a subject's id as text or a list of them, got {ids} of type .*fix: ask"):
        list_ids(ids)


@pytest.mark.parametrize("k", [0, -1, 2.5, 3.0, "3", None, True])
def test_require_whole_refuses_what_is_no_whole_number_of_one_or_more(k):
    with pytest.raises(ValueError, match=rf"expected k of 1 or more, got '?{k}"):
        require_whole("k", k)


def test_require_whole_takes_integers_of_numpy():
    require_whole("k", np.int32(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_to_float_keeps_the_numbers_of_any_float_type(dtype):
    z = torch.tensor([0.5, -1.25], dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(to_float(z), [0.5, -1.25])


def test_unit_vectors_divides_by_the_norm():
    np.testing.assert_allclose(unit_vectors([3, 4], 2), [[0.6, 0.8]])
    np.testing.assert_allclose(unit_vectors(torch.tensor([[0, 2.0], [5, 0]]), 2), [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    "z", [[1.0], [[1, 2], [1]], [["a", "b"]], [[0, 0]], [[np.nan, 1]], np.zeros((0, 2)), np.ones((1, 1, 2)), None]
)
def test_unit_vectors_refuses_vectors_without_a_direction_in_the_space(z):
    with pytest.raises(
        ValueError, match=r"(?s)expected finite vectors other than 0 of 2 numbers, got .*fix: embed with the model"
    ):
        unit_vectors(z, 2)
