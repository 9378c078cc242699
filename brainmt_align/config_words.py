"""Words and YAML files: what a user wrote and a schema flow in; the schema with these values flows out, still unchecked."""

import dataclasses
import difflib
import itertools
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def merge_words(schema: type, argv: list[str], settings: dict[str, Any] | None = None) -> Any:
    """Defaults ← settings ← YAML files ← words, in their order.

    Args:
        schema: a dataclass of values and dataclasses.
        argv: words `config=FILE` and `key=value` (dotted keys).
        settings: of an earlier run, which files and words win over.

    Returns:
        An OmegaConf node of the schema.

    Raises:
        ValueError: a word that is no key=value, a file or a value that is no YAML, an unknown key, a value of the wrong kind.
        FileNotFoundError: a YAML file does not exist.
    """
    words = [word for word in argv if not word.startswith("config=")]
    for word in words:
        if "=" not in word or word.startswith("-"):
            raise ValueError(
                f"Words of the form key=value were expected, got {word!r}.\n"
                "  where: the command line\n  fix: write for example train.epochs=10."
            )
    merged = _merge(OmegaConf.structured(schema), OmegaConf.create(settings or {}), "file: config.yaml of the checkpoint's run")
    for word in argv:
        if word.startswith("config="):
            merged = _merge(merged, _read_file(Path(word.removeprefix("config="))), f"file: {word.removeprefix('config=')}")
    for word in words:
        merged = _merge(merged, _read_word(word), f"where: {word} on the command line")
    return merged


def settings_of_run(schema: type, path: Path, same_people: bool) -> dict[str, Any]:
    """What an earlier run was told of its people, or of its DNA encoder alone, as far as the schema has such keys and uses them.

    Args:
        schema: a recipe's dataclass.
        path: config.yaml of that run; nothing is taken where there is none.
        same_people: its data, stores, families and evaluation too, not its encoder alone.
    """
    if not path.is_file():
        return {}
    content = OmegaConf.to_container(OmegaConf.load(path))
    usual = OmegaConf.structured(schema)
    taken = {}
    for group in ("data", "stores", "simulation", "dna", "evaluation") if same_people else ("dna",):
        keys = [key for key in content.get(group, {}) if key in usual[group] and f"{group}.{key}" not in schema.UNUSED]
        taken[group] = {key: content[group][key] for key in keys}
    if same_people and "split" in content:
        taken |= {key: content["split"][key] for key in ("groups", "relatives") if content["split"].get(key)}
    return taken


def describe_kind(hint: Any) -> str:
    """The values that a field's type allows, in words."""
    if dataclasses.is_dataclass(hint):
        return f"a group of the keys {', '.join(field.name for field in dataclasses.fields(hint))}"
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is dict:
        return "a group of keys with a value each"
    if typing.get_origin(hint) is tuple:
        if parts[-1] is Ellipsis:
            return "a list such as [a,b] or []"
        return f"a list of {len(parts)}, each {describe_kind(parts[0])}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(describe_kind, parts))
    return KINDS[hint]


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"A YAML configuration was expected, got no file.\n  file: {path}\n"
            "  fix: see recipes/configs/ for the ones that exist."
        )
    try:
        content = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(
            f"A YAML configuration was expected, got something else: {_first_line(error)}\n  file: {path}\n"
            "  fix: correct its brackets and indents."
        ) from error
    if not OmegaConf.is_dict(content):
        raise ValueError(
            f"A YAML configuration of keys and values was expected, got {type(content).__name__}.\n  file: {path}\n"
            "  fix: write lines of the form key: value."
        )
    return content


def _read_word(word: str) -> Any:
    try:
        return OmegaConf.from_dotlist([word])
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(
            f"A value in YAML was expected, got {word!r}: {_first_line(error)}\n  where: the command line\n"
            "  fix: close its brackets and quotes."
        ) from error


def _merge(base: Any, other: Any, where: str) -> Any:
    """Both joined; where that fails, the error names the first key that does not fit."""
    try:
        return OmegaConf.merge(base, other)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        content = OmegaConf.to_container(other)
        schema = OmegaConf.get_type(base)
        misfits = (_complaint(schema, *leaf, where) for leaf in _leaves(content) if not _fits(base, *leaf))
        numbers = (
            f"Keys of {place} must be text; got {name!r}.\n  {where}\n  fix: write {place}.NAME= and a value of its kind."
            for place, name in _keys_that_are_no_text(content)
        )
        raise ValueError(next(itertools.chain(misfits, numbers), str(error))) from error


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with what they are set to."""
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _keys_that_are_no_text(node: dict[Any, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of groups, each with a key in it that is a number or the like."""
    for name, value in node.items():
        if not isinstance(name, str):
            yield place, name
        elif isinstance(value, dict):
            yield from _keys_that_are_no_text(value, f"{place}.{name}".lstrip("."))


def _fits(base: Any, key: str, value: Any) -> bool:
    single = OmegaConf.create()
    OmegaConf.update(single, key, value)
    try:
        OmegaConf.merge(base, single)
    except (OmegaConfBaseException, ValueError, TypeError):
        return False
    return True


def _complaint(schema: type, key: str, value: Any, where: str) -> str:
    """What is wrong with the key, or with the value of a key that exists."""
    hint, place = schema, ""
    for name in key.split("."):
        if not dataclasses.is_dataclass(hint):
            break  # the path goes on below a single value
        known = [field.name for field in dataclasses.fields(hint)]
        if name not in known:
            close = _close_keys(schema, key)
            hint = f"write {' or '.join(close)}; " if close else ""
            return f"A known key was expected, got {key}.\n  {where}\n  fix: {hint}known keys here are {', '.join(known)}."
        hint, place = typing.get_type_hints(hint)[name], f"{place}.{name}".lstrip(".")
    got = repr(value) if place == key else f"{key}={value!r}"
    example = f"{place}.{dataclasses.fields(hint)[0].name}" if dataclasses.is_dataclass(hint) else place
    return f"{place} must be {describe_kind(hint)}; got {got}.\n  {where}\n  fix: write {example}= and a value of its kind."


def _close_keys(schema: type, key: str) -> list[str]:
    """The known keys that end in the same name, or are spelt nearly so."""
    known, name = list(_known_keys(schema)), key.rpartition(".")[2]
    return [each for each in known if each.rpartition(".")[2] == name] or difflib.get_close_matches(key, known, n=2, cutoff=0.8)


def _known_keys(schema: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values."""
    hints = typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        inner = hints[field.name]
        if dataclasses.is_dataclass(inner):
            yield from _known_keys(inner, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
