"""Phenotype heads: the layout of logits, what they predict, and the head itself."""

import math

import pytest
import torch
from torch import nn

from brainmt_align.model.heads import PhenotypeHead, TargetSpec, predictions_of, require_targets, split_logits

TARGETS = [
    TargetSpec("age", "regression"),
    TargetSpec("sex", "binary", 2),
    TargetSpec("site", "multiclass", 3),
    TargetSpec("grade", "ordinal", 4),
]


def logits_of(rows=6, seed=0):
    return 2 * torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def test_target_spec_counts_its_outputs():
    assert [target.outputs for target in TARGETS] == [1, 1, 3, 3]


def test_split_logits_gives_each_target_its_own_columns():
    parts = split_logits(logits_of(), TARGETS)
    assert [part.shape[1] for part in parts] == [1, 1, 3, 3]
    assert torch.equal(torch.cat(parts, 1), logits_of())


def test_predictions_of_equal_the_formulas_written_out():
    logits, got = logits_of(), predictions_of(logits_of(), TARGETS)
    assert list(got) == ["age", "sex", "site", "grade"]
    assert {name: tuple(rows.shape) for name, rows in got.items()} == {
        "age": (6,),
        "sex": (6, 2),
        "site": (6, 3),
        "grade": (6, 4),
    }
    for i, row in enumerate(logits.tolist()):
        assert got["age"][i].item() == pytest.approx(row[0])
        second = 1 / (1 + math.exp(-row[1]))
        assert got["sex"][i].tolist() == pytest.approx([1 - second, second], abs=1e-6)
        total = sum(math.exp(logit) for logit in row[2:5])
        assert got["site"][i].tolist() == pytest.approx([math.exp(logit) / total for logit in row[2:5]], abs=1e-6)
        above = [1.0]
        for logit in row[5:8]:
            above.append(min(above[-1], 1 / (1 + math.exp(-logit))))
        above.append(0.0)
        assert got["grade"][i].tolist() == pytest.approx([above[k] - above[k + 1] for k in range(4)], abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_predictions_of_classes_are_probabilities_also_where_cumulative_logits_cross(scale):
    got = predictions_of(scale * logits_of(rows=200), TARGETS)
    for name in ("sex", "site", "grade"):
        assert (got[name] >= 0).all()
        torch.testing.assert_close(got[name].sum(1), torch.ones(200), atol=1e-6, rtol=0)


def test_predictions_of_half_precision_logits_are_float32():
    assert {rows.dtype for rows in predictions_of(logits_of().bfloat16(), TARGETS).values()} == {torch.float32}


def test_split_logits_refuses_another_number_of_columns():
    with pytest.raises(ValueError, match=r"Logits \(B, 8\) were expected of the targets age, sex, site, grade, got \(6, 7\)"):
        split_logits(logits_of()[:, :7], TARGETS)


def test_require_targets_lists_every_fault():
    require_targets(TARGETS)
    faulty = [
        TargetSpec("a", "regression", 3), TargetSpec("b", "binary", 3), TargetSpec("c", "ordinal", 1), TargetSpec("d", "ranking"),
        TargetSpec("d", "multiclass", 2),
    ]  # fmt: skip
    listed = (
        "d: 2 times; a: regression with 3 classes; b: binary with 3 classes; c: ordinal with 1 classes; d: task 'ranking'\\.\n"
    )
    with pytest.raises(ValueError, match=listed):
        require_targets(faulty)
    with pytest.raises(ValueError, match="got no target at all"):
        require_targets([])


def test_phenotype_head_is_a_linear_map_of_the_published_names_and_start():
    torch.manual_seed(0)
    head, features = PhenotypeHead(300, 40), torch.randn(5, 300)
    assert list(head.state_dict()) == ["weight", "bias"]
    assert 0.019 < head.weight.std() < 0.021 and (head.bias == 0).all()
    published = nn.Linear(300, 40)
    head.load_state_dict(published.state_dict())
    assert torch.equal(head(features), published(features))


def test_phenotype_head_drops_features_in_training_alone():
    head = PhenotypeHead(1000, 1, dropout=0.5)
    nn.init.constant_(head.weight, 1.0)
    kept = head(torch.ones(1, 1000)).item()
    assert kept != 1000 and 800 < kept < 1200  # the kept half counts twice
    assert head.eval()(torch.ones(1, 1000)).item() == 1000
