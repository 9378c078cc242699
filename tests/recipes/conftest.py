"""A simulated cohort small enough to train on within a test."""

import pytest
from accelerate.state import AcceleratorState

from brainmt_align.data.simulate import CohortParameters, write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """30 people, two regions of 512 bases, (D, H, W) = (16, 16, 16), 12 frames."""
    parameters = CohortParameters(people=30, regions=2, region_bases=512, traits=2, volume_shape=(16, 16, 16), frames=12, seed=3)
    return write_cohort(tmp_path_factory.mktemp("simulated") / "cohort", parameters, progress=False)


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="session")
def words(cohort, stores):
    """Command-line words that every recipe takes, and those of a training of a few steps."""
    places = [f"stores.{name}={stores / name}" for name in ("bold", "dna", "alleles")]
    data = [f"data.root={cohort}", *places, "threads=1"]
    small = [
        "fmri.embed_dim=8",
        "fmri.stem_channels=[2,2]",
        "fmri.d_state=2",
        "train.epochs=3",
        "train.batch_size=8",
        "train.window=4",
    ]
    return {"data": data, "training": [*data, *small, "data.truth=truth.json", "evaluation.permutations=200"]}


@pytest.fixture
def own_precision():
    """Accelerate keeps one precision a process; these tests have their own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
