"""The one-off conversion of an Evo 2 checkpoint: any published form flows in, a folder of sharded safetensors flows out.

    python -m encoders.evo2_convert SOURCE TARGET [MODEL]

SOURCE and MODEL are `checkpoint` and `model` of `load_dna_encoder("evo2", …)`.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from encoders.evo2_checkpoint import INDEX, fetch, find_source
from encoders.evo2_weights import SCALES, check_shapes, open_checkpoint, told_by_shapes

SHARD_BYTES = 2_000_000_000


def main(argv: list[str]) -> None:
    if len(argv) not in (2, 3):
        sys.exit("usage: python -m encoders.evo2_convert SOURCE TARGET [MODEL]")
    print(f"converted: {convert(*argv)}")


def convert(source: str | Path, target: str | Path, model: str | None = None, shard_bytes: int = SHARD_BYTES) -> Path:
    """Writes a checkpoint once more as sharded safetensors, with a config.json that makes it load by itself.

    Tensors keep their values and precision; what the network does not use is left out, FP8 scales are kept. Memory goes by one
    shard. The folder appears under its name when it is whole.

    Args:
        source: a published model, hub id, local file or folder.
        target: a folder that does not exist yet.
        model: the published name, where the source does not tell it.
        shard_bytes: bytes after which a file is closed; it exceeds them by less than one tensor.

    Returns:
        The folder.

    Raises:
        FileExistsError: the target exists.
        FileNotFoundError, ValueError: a checkpoint that cannot be found or read, or does not fit its model.
    """
    target = Path(target).expanduser()
    if target.exists():
        raise FileExistsError(f"A conversion writes a new folder; this one exists.\n  file: {target}\n  fix: name another.")
    files, config = find_source(source, model)
    checkpoint = open_checkpoint(files or fetch(config.published_name))
    config = told_by_shapes(checkpoint) if config is None else config
    check_shapes(config, checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".unfinished", dir=target.parent))
    try:
        held_in, total, shard = {}, 0, {}
        keys = [*checkpoint.shapes, *(f"{module}.{SCALES}" for module in checkpoint.scaled())]
        for at, key in enumerate(keys):
            module, _, name = key.rpartition(".")
            shard[key] = (checkpoint.scales(module) if name == SCALES else checkpoint.read(key)).contiguous()
            if _bytes(shard) >= shard_bytes or at == len(keys) - 1:
                file = f"model-{len(set(held_in.values())) + 1:05d}.safetensors"
                save_file(shard, unfinished / file, metadata={"format": "pt"})
                held_in.update(dict.fromkeys(shard, file))
                total, shard = total + _bytes(shard), {}
        index = {"metadata": {"total_size": total}, "weight_map": held_in}
        (unfinished / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        (unfinished / "config.json").write_text(config.to_json(), encoding="utf-8")
        unfinished.chmod(0o755)  # temporary folders and files are for their owner alone
        for file in unfinished.iterdir():
            file.chmod(0o644)
        return unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


if __name__ == "__main__":
    main(sys.argv[1:])
