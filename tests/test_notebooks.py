"""The notebooks as files: what they may hold is checked here; .ci/run executes them."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["01_align_and_query", "02_genes_to_brain", "03_brain_to_genes", "04_phenotypes", "05_your_own_data"]
MOST_BYTES = 400_000
MOST_LINES = 5  # of a function: more belongs into a room
PLACES = re.compile(r"(?<![\w.:/])/(?:home|Users|root|tmp|work|mnt|data|opt|usr|var)/|[A-Z]:\\\\")  # of somebody's machine
TRAINING = re.compile(r"\.backward\(|optimi[sz]er|torch\.optim|\.train\(\)")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(path: Path) -> str:
    """All code cells as one module, without the lines that IPython alone understands."""
    book = nbformat.read(path, as_version=4)
    lines = [line for cell in book.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    return "\n".join(line for line in lines if not line.startswith("%"))


def test_notebooks_are_the_five_that_the_readme_links():
    assert [path.stem for path in NOTEBOOKS] == NAMES
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"(notebooks/{name}.ipynb)" not in readme] == []


@every_notebook
def test_notebook_is_valid_and_opens_with_a_title(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    first = book.cells[0]
    assert first.cell_type == "markdown" and re.match(r"# \S", first.source)
    assert any(re.search(r"\bsimulated\b", cell.source, re.I) for cell in book.cells if cell.cell_type == "markdown")


@every_notebook
def test_code_parses_trains_nothing_and_defines_no_long_function(path):
    code = code_of(path)
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [each.name for each in functions if each.end_lineno - each.lineno + 1 > MOST_LINES] == []
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(code)))
    assert TRAINING.findall(code) == []


@every_notebook
def test_outputs_are_there_small_and_name_no_place_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    assert PLACES.findall(re.sub(r'"image/png": "[^"]*"', "", text)) == []
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output.output_type for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
