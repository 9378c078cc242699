"""Stored runs: a file of the BOLD store flows in; windows of its frames and volumes on any device flow out."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

FORMAT = "brainmt_align.bold"
FORMAT_VERSION = "1"
FLOAT16_BYTES = 2


@dataclass(frozen=True)
class StoredRun:
    """One run of the store; holds its header and opens the file anew at each read, so that it may go to other processes."""

    path: Path
    header: dict
    data_start: int  # byte of the file where data_TV begins

    @property
    def num_frames(self) -> int:
        return self.header["num_frames"]

    @property
    def num_voxels(self) -> int:
        return self.header["num_voxels"]

    @property
    def tr_s(self) -> float:
        return self.header["tr_s"]

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        return tuple(self.header["grid"])

    def window(self, start: int, frames: int) -> np.ndarray:
        """(frames, V) float16 from frame `start` (0-based) on, as stored; no other frame is read.

        Raises:
            ValueError: the window leaves the run, or the file has become shorter since it was opened.
        """
        if start < 0 or frames < 1 or start + frames > self.num_frames:
            raise ValueError(
                f"BOLD window: frames within 0 … {self.num_frames} were expected, got {start} … {start + frames}.\n"
                f"  file: {self.path}\n  fix: take at most {self.num_frames} frames and a start that leaves room for them."
            )
        count = frames * self.num_voxels
        offset = self.data_start + start * self.num_voxels * FLOAT16_BYTES
        values = np.fromfile(self.path, np.float16, count, offset=offset)
        if len(values) < count:
            raise ValueError(_damaged(self.path, f"{len(values)} of {count} values of the window"))
        return values.reshape(frames, self.num_voxels)

    def voxels(self) -> np.ndarray:
        """(V,) int32 flat C-order indices into (D, H, W).

        Raises:
            ValueError: they are not those that the run was stored with.
        """
        with safe_open(self.path, framework="np") as file:
            voxels = file.get_tensor("voxels")
        if mask_hash(self.volume_shape, voxels) != self.header["mask_sha256"]:
            raise ValueError(_damaged(self.path, "voxels that do not fit the mask's hash"))
        return voxels

    def volume(self, start: int, frames: int, device: torch.device | str | None = None) -> torch.Tensor:
        """(frames, 1, D, H, W) float16 on `device`, background filled; only in-mask values travel there.

        Raises:
            ValueError: as `window` and `voxels`.
        """
        window_TV = torch.from_numpy(self.window(start, frames)).to(device)
        voxels = torch.from_numpy(self.voxels()).to(window_TV.device, torch.int64)
        size = math.prod(self.volume_shape)
        filled = torch.full((frames, size), self.header["background"], dtype=torch.float16, device=window_TV.device)
        return filled.index_copy_(1, voxels, window_TV).reshape(frames, 1, *self.volume_shape)


def open_run(path: str | Path) -> StoredRun:
    """Opens a file of the store; reads its header only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole safetensors file, not of this store, or of another version of its format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"BOLD store: a file was expected, got none.\n  file: {path}\n  fix: build the store first.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(_damaged(path, str(error))) from error
    if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
        got = f"{metadata.get('format', 'a foreign file')} {metadata.get('format_version', '')}".strip()
        raise ValueError(
            f"BOLD store: {FORMAT} {FORMAT_VERSION} was expected, got {got}.\n  file: {path}\n"
            "  fix: name a file of the store, or build the store again in a new folder."
        )
    header = json.loads(metadata["header"])
    if shapes != {"data_TV": [header["num_frames"], header["num_voxels"]], "voxels": [header["num_voxels"]]}:
        raise ValueError(_damaged(path, f"tensors {shapes} that do not fit the header"))
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        start = json.loads(file.read(length))["data_TV"]["data_offsets"][0]
    return StoredRun(path, header, 8 + length + start)


def mask_hash(grid: tuple[int, int, int], voxels: np.ndarray) -> str:
    """Equal for runs of one grid and one mask, whatever file the mask came from."""
    return hashlib.sha256(np.asarray([*grid], "<i4").tobytes() + voxels.astype("<i4").tobytes()).hexdigest()


def _damaged(path: Path, got: str) -> str:
    return f"BOLD store: a whole file was expected, got: {got}.\n  file: {path}\n  fix: delete it and build the store again."
