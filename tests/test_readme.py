"""The README's floor plan against the house: every module has its line, every line its module."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("brainmt_align", "encoders", "recipes")


def floor_plan() -> list[str]:
    """Paths of the modules that the plan names, folders told from the indentation."""
    plan = (ROOT / "README.md").read_text(encoding="utf-8").split("## Floor plan")[1].split("```")[1]
    modules, folders = [], []
    for line in plan.splitlines():
        if not (entry := re.match(r"( *)(\S+/|\S+\.py)(?: |$)", line)):
            continue
        indent, name = len(entry[1]), entry[2]
        if name.endswith("/"):
            folders = [(depth, folder) for depth, folder in folders if depth < indent] + [(indent, name)]
        else:
            modules.append("".join(folder for depth, folder in folders if depth < indent) + name)
    return modules


def test_floor_plan_names_every_module_once_and_none_that_is_not_there():
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    spoken = [file for file in files if file.name != "__init__.py" or len(file.read_text(encoding="utf-8").splitlines()) > 1]
    there = {file.relative_to(ROOT).as_posix() for file in spoken}
    named = floor_plan()
    assert len(named) == len(set(named))
    assert sorted(there - set(named)) == [] and sorted(set(named) - there) == []
