"""Notes of a run: sentences on its data flow in; they are printed once, kept, and flow out as notes.json for the report."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from brainmt_align.training.checkpoints import write_json

PATH = re.compile(r"(?:[\w.~:-]*[/\\])+([\w.-]+)")
NOTES_FILE = "notes.json"
Result = TypeVar("Result")


class RunNotes:
    """What a run has to say of its data, in order; every process may hold one, the main process writes.

    Args:
        print_line: prints a line, once over all processes; `accelerator.print` does.
    """

    def __init__(self, print_line: Callable[[str], None] = print):
        self.print_line, self.said, self.lines = print_line, [], []

    def say(self, line: str, kept: str | None = None) -> None:
        """Print the line and keep it; a line that was said before is not said again.

        Args:
            line: for whoever sits before the terminal.
            kept: what the report holds instead, where the line names people; of paths the last part alone is kept.
        """
        if line not in self.said:
            self.print_line(line)
            self.said.append(line)
            self.lines.append(PATH.sub(r"\1", line if kept is None else kept))

    def say_of_people(self, line: str) -> None:
        """Print a line that ends in a list of ids after a colon, and keep it without the list."""
        self.say(line, line.rpartition(": ")[0] or line)

    def attempt(self, what: str, work: Callable[[], Result]) -> Result | None:
        """Do what a run can do without; where these data do not allow it, a note says why, and None comes back.

        Args:
            what: the work, for the note.
            work: called without arguments; ValueError, RuntimeError and OSError are taken for a refusal.
        """
        try:
            return work()
        except (ValueError, RuntimeError, OSError) as error:
            told = f"Left out, {what}: {error}"
            self.say(told, told.splitlines()[0].partition(", got ")[0])
            return None

    def write(self, folder: Path) -> None:
        """Leave notes.json in the run folder."""
        write_json(folder / NOTES_FILE, {"notes": self.lines})
