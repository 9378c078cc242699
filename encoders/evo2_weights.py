"""Evo 2's weights: the files of a checkpoint flow in, its tensors one at a time or a filled network flow out.

A torch file is mapped and a file in parts is read where its parts lie; nothing is merged, and no more than one tensor exists
beside the network (pages of a mapped file may count as the process's own while it is read, and are given back under pressure).
Nothing of a file is executed.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode  # documented as the way to read where a file keeps its tensors

from encoders.evo2_config import PUBLISHED, Evo2Config
from encoders.evo2_fp8 import has_scales, read_scales
from encoders.evo2_network import Evo2
from encoders.published import list_faults, reading, state_faults

SCALES = "fp8_scales"
KEPT_IN_FLOAT32 = (".log_poles", ".residues", ".inv_freq")
"""Ends of the names of tensors that stay in float32 in every precision."""

_IGNORED = re.compile(r"unembed\.weight|.+\._extra_state|blocks\.\d+\.mixer\.mixer\.filter\.t")
_ALLOWED = [io.BytesIO, bytes]


class Checkpoint(NamedTuple):
    """The tensors of a checkpoint, each read when it is asked for; what the network does not use is left out.

    `shapes` are those of all tensors, `read` gives one. `scales` gives the FP8 scales of a projection by its module's name, and
    `scaled` names the projections of which there are any; nothing but these two looks at the metadata of FP8.
    """

    origin: Path
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    scales: Callable[[str], Tensor]
    scaled: Callable[[], list[str]]


def open_checkpoint(files: Sequence[Path]) -> Checkpoint:
    """Opens safetensors, one torch file, or a torch file in parts.

    Raises:
        ValueError: a file that is damaged or needs code to be read, or one that holds something else than tensors.
    """
    if files[0].suffix == ".safetensors":
        return _open_safetensors(files)
    if len(files) == 1:
        with reading(files[0]), torch.serialization.safe_globals(_ALLOWED):
            content = torch.load(files[0], map_location="cpu", mmap=True, weights_only=True)
        return _from_content(files[0], content, lambda tensor: tensor)
    parts = Parts(files)
    with reading(files[0]), FakeTensorMode(), torch.serialization.safe_globals(_ALLOWED):
        buffered = io.BufferedReader(parts)
        content = torch.load(buffered, map_location="cpu", weights_only=True)
        buffered.detach()  # it would close the parts
    return _from_content(files[0], content, parts.tensor)


class Parts(io.RawIOBase):
    """Files that are one file cut into pieces, read as that one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [file.open("rb") for file in files]
        sizes = [file.stat().st_size for file in files]
        self._starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        if self._position >= self._starts[-1]:
            return 0
        at = next(i for i, end in enumerate(self._starts[1:]) if self._position < end)
        self._files[at].seek(self._position - self._starts[at])
        count = self._files[at].readinto(memoryview(buffer)[: self._starts[at + 1] - self._position])
        self._position += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def tensor(self, placeholder: Tensor) -> Tensor:
        """The tensor that a placeholder without data stands for."""
        storage = placeholder.untyped_storage()
        content = torch.empty(storage.nbytes(), dtype=torch.uint8)
        self.seek(storage._checkpoint_offset)
        view, filled = memoryview(content.numpy()), 0
        while filled < len(view):
            filled += (count := self.readinto(view[filled:]))
            if not count:
                raise ValueError(
                    f"The parts of a torch file end at byte {self._position}, before its last tensor.\n"
                    f"  file: {self._files[-1].name}\n  fix: copy or download them again."
                )
        return content.view(placeholder.dtype).as_strided(
            tuple(placeholder.shape), placeholder.stride(), placeholder.storage_offset()
        )


def _from_content(origin: Path, content: object, read: Callable[[Tensor], Tensor]) -> Checkpoint:
    """A loaded torch file, its tensors with or without data."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f"Named tensors were expected; got {type(content).__name__}.\n  file: {origin}\n  fix: use the published .pt file."
        )
    used = {key: value for key, value in content.items() if not _IGNORED.fullmatch(str(key))}
    strange = [f"{key}: a {type(value).__name__}" for key, value in used.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(
            f"A checkpoint of Evo 2 holds tensors, and metadata under known names alone; {list_faults(strange)}\n"
            f"  file: {origin}\n  fix: use the published .pt file."
        )

    suffix = "._extra_state"
    blobs = {key.removesuffix(suffix): content[key] for key in content if str(key).endswith(f".projections{suffix}")}

    def scales(module: str) -> Tensor:
        try:
            return read_scales(blobs.get(module))
        except ValueError as error:
            raise ValueError(_without_scales(module, origin, str(error))) from error

    shapes = {key: tuple(value.shape) for key, value in used.items()}
    return Checkpoint(
        origin, shapes, lambda key: read(used[key]), scales, lambda: [name for name, blob in blobs.items() if has_scales(blob)]
    )


def _without_scales(module: str, origin: Path, why: str) -> str:
    return f'{why}\n  file: {origin}, {module}\n  fix: use the published .pt file, or fp8="off".'


def _open_safetensors(files: Sequence[Path]) -> Checkpoint:
    shards, shapes, origin = {}, {}, files[0].parent
    for file in files:
        with reading(file):
            shard = safe_open(file, "pt")
            for key in shard.keys():  # noqa: SIM118 a reader, no mapping
                shards[key], shapes[key] = shard, tuple(shard.get_slice(key).get_shape())

    def scales(module: str) -> Tensor:
        key = f"{module}.{SCALES}"
        if key not in shards:
            raise ValueError(_without_scales(module, origin, "FP8 needs the scales of every projection; there are none here."))
        return shards[key].get_tensor(key)

    suffix = f".{SCALES}"
    used = {key: shape for key, shape in shapes.items() if not key.endswith(suffix)}
    scaled = [key.removesuffix(suffix) for key in shapes if key.endswith(suffix)]
    return Checkpoint(origin, used, lambda key: shards[key].get_tensor(key), scales, lambda: scaled)


def told_by_shapes(checkpoint: Checkpoint) -> Evo2Config:
    """The configuration of a checkpoint that nothing names.

    Raises:
        ValueError: no published model has these shapes, or several have.
    """
    fitting = _fitting(checkpoint)
    if len(fitting) == 1:
        return PUBLISHED[fitting[0]]
    shapes = f"fit {' and '.join(fitting)} alike" if fitting else "fit no published model"
    fix = f"pass model={' or model='.join(fitting)}" if fitting else "put a config.json with the settings of its yml beside it"
    raise ValueError(
        f"An Evo 2 file must say which model it is: its shapes {shapes}, and neither its name nor a config.json tells.\n"
        f"  file: {checkpoint.origin}\n  fix: {fix}."
    )


def fill(model: Evo2, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
    """Puts a checkpoint into a network on the meta device, tensor by tensor, in the precision it shall compute in.

    The whole checkpoint is checked by name and shape, of its values only what the network needs is read.

    Raises:
        ValueError: tensors that are missing, unexpected or of another shape (listed, with the published models that they fit).
    """
    check_shapes(model.config, checkpoint)
    for key in list(model.state_dict()):
        tensor = checkpoint.read(key).to(device, precision(key, dtype), copy=True)
        module_name, _, name = key.rpartition(".")
        module = model.get_submodule(module_name)
        setattr(module, name, nn.Parameter(tensor, requires_grad=False) if name in module._parameters else tensor)
        if name == "inv_freq":
            _check_frequencies(key, tensor, model.config, checkpoint.origin)


def precision(key: str, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is held in by a network of this precision: poles, residues and rotary frequencies in float32 always."""
    return torch.float32 if key.endswith(KEPT_IN_FLOAT32) else dtype


def cast(model: Evo2, dtype: torch.dtype) -> Evo2:
    """The same network in another precision."""
    for key, tensor in model.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(precision(key, dtype))
    return model


def check_shapes(config: Evo2Config, checkpoint: Checkpoint) -> None:
    """See `fill`."""
    faults = _faults(config, checkpoint)
    if faults:
        fitting = _fitting(checkpoint)
        fix = (
            f"these are the shapes of {' and '.join(fitting)}: name that model"
            if fitting
            else "use the published file of this model, complete"
        )
        raise ValueError(
            f"Weights must fit {config.published_name or 'their config.json'} tensor for tensor; {list_faults(faults)}\n"
            f"  file: {checkpoint.origin}\n  fix: {fix}."
        )


def _faults(config: Evo2Config, checkpoint: Checkpoint) -> list[str]:
    with torch.device("meta"):
        expected = Evo2(config).state_dict()
        found = {key: torch.empty(shape) for key, shape in checkpoint.shapes.items()}
    return state_faults(found, expected)


def _fitting(checkpoint: Checkpoint) -> list[str]:
    return [name for name, config in PUBLISHED.items() if not _faults(config, checkpoint)]


def _check_frequencies(key: str, found: Tensor, config: Evo2Config, origin: Path) -> None:
    formula = config.rotary_emb_base ** -(torch.arange(len(found), dtype=torch.float64) / len(found))
    deviation = (found.cpu().double() / formula - 1).abs().max().item()
    if not deviation < 0.01:
        warnings.warn(
            f"{key} differs from base^(-2j/d) with base {config.rotary_emb_base:g} by up to {deviation:.1%}; the file's values"
            f" are used. Another model's rotary base has such values: check the name.\n  file: {origin}",
            stacklevel=3,
        )
