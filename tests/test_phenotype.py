"""PhenotypeModel: the published readout against golden numbers; what is trained, loaded, kept and how deep it lies."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from brainmt_align.model.alignment import AlignmentModel, DNATower, FMRITower, RegionStatistics
from brainmt_align.model.heads import TargetSpec
from brainmt_align.model.phenotype import READOUTS, PhenotypeModel, build_fmri_tower, parameter_depths
from encoders import BrainMT, BrainMTConfig
from encoders.brainmt import BrainMTOutput

AGE, SEX = TargetSpec("age", "regression"), TargetSpec("sex", "binary", 2)
SIZES = {"volume_shape": (16, 16, 16), "num_frames": 4, "embed_dim": 16, "stem_channels": (2, 4), "d_state": 4}


def brainmt(depth=(2, 2), **settings):
    return BrainMT(BrainMTConfig(**{**SIZES, "depth": depth, "num_classes": 0, "init_std": 0.2, **settings}))


def dna_tower(width=12):
    statistics = RegionStatistics(torch.tensor([True, False, True]), torch.zeros(3, 5), torch.ones(3, 5))
    return DNATower(statistics, output_dim=width)


def build(readout="standardised", inputs="fmri", targets=(AGE, SEX), seed=0, pooling="cls", dropout=0.0, **settings):
    torch.manual_seed(seed)
    fmri = None if inputs == "dna" else build_fmri_tower(brainmt(**settings), readout, pooling, output_dim=24)
    return PhenotypeModel(targets, fmri, {} if inputs == "fmri" else {"caduceus": dna_tower()}, dropout)


def scans(batch=4, seed=1):
    return torch.randn(batch, 4, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed))


def genomes(batch=4, seed=2):
    return {"caduceus": torch.randn(batch, 3, 2, 5, generator=torch.Generator().manual_seed(seed))}


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def step(model, rate=0.1):
    """One optimiser step on everything that is trained; returns the names of what has a gradient."""
    optimiser = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=rate)
    optimiser.zero_grad()
    model(scans(), genomes()).square().sum().backward()
    optimiser.step()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("case", ["A", "B"])
@pytest.mark.parametrize("name", ["tiny_b2t3", "vol24x40x32_b2t4"])
def test_published_readout_with_the_official_head_equals_the_published_code(golden, number_procedure, case, name):
    tensors, meta = golden(f"brainmt/brainmt_{case}_{name}")
    if name == "tiny_b2t3":
        weights, x = {key.removeprefix("w."): value for key, value in tensors.items() if key.startswith("w.")}, tensors["x"]
    else:
        weights = {key: torch.from_numpy(number_procedure.make_param(key, spec)) for key, spec in meta["param_spec"].items()}
        x = torch.from_numpy(number_procedure.make_input(meta["input"]["key"], meta["input"]["shape"]))
    official = BrainMT.from_official(weights, volume_shape=x.shape[3:])
    outputs = official.config.num_classes
    tower = build_fmri_tower(BrainMT.from_official(weights, volume_shape=x.shape[3:]), "published")
    targets = [TargetSpec("site", "multiclass", outputs)] if outputs > 1 else [AGE]
    model = PhenotypeModel(targets, tower, {}, dropout=0.5).eval()
    model.take_official_head()
    with torch.no_grad():
        logits, prediction = model(x, {}), official(x, tokens=False).prediction
    torch.testing.assert_close(logits, tensors["forward"], atol=1e-4, rtol=0)
    assert torch.equal(logits, prediction)


def test_official_head_is_dropped_without_asking_for_it():
    torch.manual_seed(0)
    encoder = brainmt(num_classes=1)
    official = encoder.head
    model = PhenotypeModel([AGE], build_fmri_tower(encoder, "published"), {})
    assert encoder.head is None and not torch.equal(model.head.weight, official.weight)
    assert [name for name in model.state_dict() if "head" in name] == ["head.weight", "head.bias"]
    assert official.weight not in set(model.parameters())


def test_take_official_head_refuses_what_the_head_was_not_trained_for():
    def with_head(targets, readout="published", pooling="cls", dna=None):
        return PhenotypeModel(targets, build_fmri_tower(brainmt(num_classes=1), readout, pooling), dna or {})

    with pytest.raises(ValueError, match="1 official outputs for targets with 2"):
        with_head([AGE, SEX]).take_official_head()
    others = [with_head([AGE], "standardised"), with_head([AGE], pooling="mean"), with_head([AGE], dna={"caduceus": dna_tower()})]
    for model in others:
        with pytest.raises(ValueError, match="got other features than the encoder's own"):
            model.take_official_head()
    for model in (build("published"), build(inputs="dna")):
        with pytest.raises(ValueError, match="got an encoder without one"):
            model.take_official_head()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_readouts_are_the_features_the_standardised_ones_and_the_projected_ones(pooling):
    bold = scans()
    plain, standardised, projected = (build(readout, pooling=pooling) for readout in ("published", "standardised", "projected"))
    for model in (plain, standardised, projected):
        model.fmri.encoder.eval()  # no drop path
    output = plain.fmri.encoder(bold)
    features = output.cls if pooling == "cls" else output.tokens.mean(1)
    torch.testing.assert_close(plain.features(bold, {}), features)
    expected = nn.functional.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(standardised.features(bold, {}), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        standardised(bold, {}), nn.functional.linear(expected, *standardised.head.parameters()), rtol=1e-4, atol=1e-5
    )
    projected.fmri.projector.eval()  # no dropout
    torch.testing.assert_close(projected.features(bold, {}), projected.fmri.projector(expected), atol=1e-4, rtol=1e-4)
    assert projected.head.weight.shape == (2, 24)


def test_late_fusion_puts_the_towers_side_by_side_in_one_head():
    model = build("projected", "both").eval()
    features = model.features(scans(), genomes())
    torch.testing.assert_close(features, torch.cat([model.fmri(scans()), model.dna["caduceus"](genomes()["caduceus"])], 1))
    assert features.shape == (4, 24 + 12) and model(scans(), genomes()).shape == (4, 2)


def test_phenotype_model_reads_dna_alone():
    model = build(inputs="dna").eval()
    torch.testing.assert_close(model(None, genomes()), model.head(model.dna["caduceus"](genomes()["caduceus"])))


def test_phenotype_model_gives_full_precision_logits_under_autocast():
    model = build("published").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits, features = model(scans(), {}), model.features(scans(), {})
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, nn.functional.linear(features.float(), *model.head.parameters()))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("kind", ["full", "probe", "lora"])
@pytest.mark.parametrize("depth", [(1, 0), (1, 1)])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("readout", READOUTS)
def test_every_trained_parameter_gets_a_gradient(readout, pooling, depth, kind):
    model = build(readout, "both", pooling=pooling, depth=depth)
    model.adapt(kind, rank=2)
    assert step(model) == trained_names(model)


def test_adapt_full_trains_everything():
    model = build("projected", "both")
    model.adapt("full")
    assert trained_names(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("readout", READOUTS)
def test_adapt_probe_trains_the_head_alone_and_leaves_the_towers_as_they_were(readout):
    model = build(readout, "both", drop_path_rate=0.5)
    model(scans(), genomes())  # gives a standardiser its statistics
    before = copy_of(model)
    model.adapt("probe")
    model.train()
    assert not model.fmri.encoder.training and not model.dna["caduceus"].training and model.head.training
    assert torch.equal(model.features(scans(), genomes()), model.features(scans(), genomes()))
    assert not model.features(scans(), genomes()).requires_grad
    assert step(model) == trained_names(model) == {"head.weight", "head.bias"}
    assert changed(model, before) == {"head.weight", "head.bias"}


def test_adapt_probe_lets_a_standardiser_without_statistics_learn_them():
    model = build()
    model.adapt("probe")
    before = copy_of(model)
    for epoch in range(3):
        model.train()
        assert model.fmri.standardise.training and not model.fmri.encoder.training
        model(scans(seed=epoch), {})
    statistics = {f"fmri.standardise.{name}" for name in ("running_mean", "running_var", "num_batches")}
    assert changed(model, before) == statistics
    model.eval()
    with torch.no_grad():
        expected = torch.stack([model.fmri.features(scans(seed=epoch)).mean(0) for epoch in range(3)]).mean(0)
    torch.testing.assert_close(model.fmri.standardise.running_mean, expected, atol=1e-5, rtol=1e-4)
    assert not model.fmri.standardise.training


def test_adapt_lora_trains_adapters_projectors_and_head_alone():
    model = build("projected", "both", drop_path_rate=0.0)
    model.eval()
    with torch.no_grad():
        expected = model(scans(), genomes())
    model.adapt("lora", rank=2)
    with torch.no_grad():
        torch.testing.assert_close(model(scans(), genomes()), expected)  # the additions start at zero
        assert isinstance(model.fmri.encoder(scans(), tokens=False), BrainMTOutput)
    before, trained = copy_of(model.train()), trained_names(model)
    encoder = {name for name in trained if name.startswith("fmri.encoder.")}
    assert len(encoder) == 2 * (2 * 4 + 2 * 2) and all(".lora_" in name for name in encoder)
    beside = ("fmri.projector.", "dna.caduceus.projector.", "head.")
    assert trained - encoder == {name for name, _ in model.named_parameters() if name.startswith(beside)}
    step(model)
    step(model)  # the first factor has a gradient once the second has left zero
    assert all((parameter.grad != 0).any() for parameter in model.parameters() if parameter.requires_grad)
    statistics = {f"fmri.standardise.{name}" for name in ("running_mean", "running_var", "num_batches")}
    assert changed(model, before) <= trained | statistics


def test_adapt_lora_has_the_same_scale_at_every_rank():
    scalings = []
    for rank in (2, 8):
        model = build()
        model.adapt("lora", rank=rank)
        scalings.append(model.fmri.encoder.blocks[0].qkv.scaling["default"])
    assert scalings == [1.0, 1.0]


@pytest.mark.parametrize("kind", ["full", "probe", "lora"])
def test_weights_of_an_adapted_model_come_back_through_safetensors(tmp_path, kind):
    model = build("projected", "both")
    model.adapt(kind, rank=2)
    step(model)
    step(model)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = build("projected", "both", seed=5)
    again.adapt(kind, rank=2)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(again.eval()(scans(), genomes()), model.eval()(scans(), genomes()))


def alignment(seed=9):
    torch.manual_seed(seed)
    model = AlignmentModel(FMRITower(brainmt(num_classes=1), output_dim=24), {"caduceus": dna_tower(24), "evo2": dna_tower(24)})
    model(scans(), {name: genomes()["caduceus"] for name in model.dna})
    return model


@pytest.mark.parametrize(("readout", "left"), [("published", 3 + 6), ("standardised", 6), ("projected", 0)])
def test_load_alignment_fills_what_the_model_has(readout, left):
    source, model = alignment(), build(readout)
    head = model.head.weight.clone()
    model.load_alignment(source.state_dict())
    shared = {name: value for name, value in source.state_dict().items() if name.startswith("fmri.") and ".head." not in name}
    loaded = [name for name, value in model.state_dict().items() if name in shared and torch.equal(value, shared[name])]
    assert len(loaded) == len(shared) - left == len(model.state_dict()) - 2
    assert torch.equal(model.head.weight, head)


def test_load_alignment_gives_the_features_of_the_aligned_model():
    source = alignment().eval()
    fmri, dna = build_fmri_tower(brainmt(), "projected", output_dim=24), {"caduceus": dna_tower(24)}
    model = PhenotypeModel([AGE], fmri, dna).eval()
    model.load_alignment(source.state_dict())
    parts = model.features(scans(), genomes()).split(24, 1)
    unit = [nn.functional.normalize(part, dim=-1) for part in parts]
    torch.testing.assert_close(unit[0], source.embed_fmri(scans()))
    torch.testing.assert_close(unit[1], source.embed_dna("caduceus", genomes()["caduceus"]))


def test_load_alignment_lists_every_difference():
    state = alignment().state_dict()
    del state["fmri.encoder.cls_token"]
    state["fmri.encoder.norm_f.weight"] = torch.ones(3)
    model, before = build(), copy_of(build())
    lines = r"2 differences:\n  - fmri\.encoder\.cls_token: missing, .*\n  - fmri\.encoder\.norm_f\.weight: \(16,\) expected"
    with pytest.raises(ValueError, match=lines):
        model.load_alignment(state)
    assert changed(model, before) == set()
    with pytest.raises(ValueError, match=r"got \d\d differences:\n(?s:.*)… and \d\d more\n"):
        model.load_alignment({})


def test_adapt_and_load_alignment_refuse_a_model_that_was_adapted_already():
    model = build()
    model.adapt("probe")
    with pytest.raises(ValueError, match="adapt was expected on a model as it was built, got one adapted by 'probe'"):
        model.adapt("lora")
    with pytest.raises(ValueError, match="load_alignment was expected on a model as it was built"):
        model.load_alignment(alignment().state_dict())


def test_phenotype_model_refuses_what_cannot_be_built():
    with pytest.raises(ValueError, match="needs a tower to read from, got neither fMRI nor DNA"):
        PhenotypeModel([AGE], None, {})
    with pytest.raises(ValueError, match="got no target at all"):
        build(targets=())
    with pytest.raises(ValueError, match=r"model\.readout must be one of standardised, projected, published; got 'raw'"):
        build("raw")
    with pytest.raises(ValueError, match="adaptation must be one of full, probe, lora; got 'frozen'"):
        build().adapt("frozen")
    with pytest.raises(ValueError, match="lora_rank must be at least 1; got 0"):
        build().adapt("lora", rank=0)
    with pytest.raises(ValueError, match="LoRA adapts the brain's encoder, got a model without one"):
        build(inputs="dna").adapt("lora")


def test_phenotype_model_refuses_missing_inputs():
    with pytest.raises(ValueError, match=r"The inputs of all towers were expected, got none for bold, caduceus\."):
        build(inputs="both")(None, {})


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_parameter_depths_grow_from_the_stem_to_the_head(kind):
    model = build("projected", "both", depth=(3, 2))
    model.adapt(kind, rank=2)
    depths = parameter_depths(model)
    assert list(depths) == [name for name, _ in model.named_parameters()]
    by_depth = {depth: {name for name in depths if depths[name] == depth} for depth in range(7)}
    assert sum(map(len, by_depth.values())) == len(depths)
    stem = ("cls_token", "pos_embed", "temporal_pos_embedding", "patch_embed.", "conv_block", "downsample")
    assert by_depth[0] == {name for name in depths if name.startswith(tuple(f"fmri.encoder.{part}" for part in stem))}
    for i in range(3):
        assert by_depth[i + 1] == {name for name in depths if name.startswith(f"fmri.encoder.layers.{i}.")}
    for j in range(2):
        assert by_depth[3 + j + 1] == {name for name in depths if name.startswith(f"fmri.encoder.blocks.{j}.")}
    behind = ("fmri.encoder.norm.", "fmri.encoder.norm_f.", "fmri.encoder.mlp.", "fmri.projector.", "dna.", "head.")
    assert by_depth[6] == {name for name in depths if name.startswith(behind)}


def test_parameter_depths_have_the_names_of_the_model_inside_a_wrapper():
    model = build()
    wrapper = nn.Module()
    wrapper.module = model
    assert parameter_depths(wrapper) == parameter_depths(model)


def test_parameter_depths_are_all_one_without_a_brain():
    assert set(parameter_depths(build(inputs="dna")).values()) == {1}
