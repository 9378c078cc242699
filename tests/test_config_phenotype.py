"""Sections of the phenotype recipe: what follows from its choices."""

import inspect

import pytest

from brainmt_align.config_phenotype import PhenotypeTargetsConfig
from brainmt_align.data.targets import fit_targets


@pytest.mark.parametrize(("adapt", "of_genomes"), [("full", "full"), ("probe", "probe"), ("lora", "full")])
def test_adaptation_of_genomes_alone_is_full_where_the_brain_has_lora(adapt, of_genomes):
    chosen = PhenotypeTargetsConfig(inputs="both", adapt=adapt)
    assert [chosen.adaptation_of(arm) for arm in chosen.arms()] == [adapt, adapt, of_genomes]


def test_coding_words_are_those_of_fit_targets():
    words = PhenotypeTargetsConfig(residualise=("age",), balanced=True).coding_words()
    assert words.keys() < inspect.signature(fit_targets).parameters.keys()
    assert words == {"residualise": ("age",), "balanced": True, "missing_covariates": "error", "categories": ()}
