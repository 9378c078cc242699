"""Programs that some tests compare with: names flow in; the test goes on, is skipped or, in CI, fails."""

import os
import shutil

import pytest


def require_programs(*names: str) -> None:
    """Skip the test unless all programs are on PATH; in CI, where they must be, fail it."""
    if all(map(shutil.which, names)):
        return
    reason = f"needs {' and '.join(names)} on PATH"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
