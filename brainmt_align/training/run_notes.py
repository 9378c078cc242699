"""Notes of a run: sentences on its data flow in; they are printed once, kept, and flow out as notes.json for the report."""

import re
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd

from brainmt_align.atomic import write_atomically
from brainmt_align.training.checkpoints import write_json

PATH = re.compile(r"(?:[\w.~:-]*[/\\])+([\w.-]+)")
WORD = re.compile(r"\w+(?:[.-]\w+)*")
NOTES_FILE = "notes.json"
CHECKS_FILE = "genotype_checks.tsv"
Result = TypeVar("Result")


class GenotypeReport(Protocol):
    """What checked genotypes have to say; `genotype_checks.check_genotypes` returns such."""

    regions: pd.DataFrame  # one row a region
    notes: list[str]
    people_notes: list[str]  # that end in ids


class RunNotes:
    """What a run has to say of its data, in order; every process may hold one, the main process writes.

    Args:
        print_line: prints a line, once over all processes; `accelerator.print` does.
    """

    def __init__(self, print_line: Callable[[str], None] = print):
        self.print_line, self.said, self.lines, self.tables = print_line, [], [], {}
        self.ids: frozenset[str] | None = None

    def hide(self, ids: Iterable[str]) -> None:
        """Name the ids of people and samples, so that reasons without any are kept whole."""
        self.ids = frozenset(ids)

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

    def say_of_genotypes(self, report: GenotypeReport) -> None:
        """Print and keep what was found, and keep the table of regions for genotype_checks.tsv."""
        for note in report.notes:
            self.say(note)
        for note in report.people_notes:
            self.say_of_people(note)
        self.tables[CHECKS_FILE] = report.regions

    def attempt(self, what: str, work: Callable[[], Result]) -> Result | None:
        """Do what a run can do without; where these data do not allow it, a note says why, and None comes back.

        The traceback is printed, for a fault that is not the data's. The first line of the reason is kept, but for what an id
        stands in; where `hide` was told none, but for all that the data brought.

        Args:
            what: the work, for the note.
            work: called without arguments; ValueError and FileNotFoundError are taken for a refusal, all else ends the run.
        """
        try:
            return work()
        except (ValueError, FileNotFoundError) as error:
            self.print_line(traceback.format_exc().rstrip())
            told = f"Left out, {what}: {error}"
            self.say(told, self._without_ids(told.splitlines()[0]))
            return None

    def _without_ids(self, line: str) -> str:
        """The line up to what it got of the data, if that holds an id or nobody has said which ids there are."""
        if self.ids is None:
            return line.partition(", got ")[0]
        first = next((word.start() for word in WORD.finditer(line) if word[0].removeprefix("sub-") in self.ids), None)
        if first is None:
            return line
        return line[:first].rpartition(", got ")[0] or line[:first].rstrip(" :,")

    def write(self, folder: Path) -> None:
        """Leave notes.json and the tables in the run folder."""
        for name, table in self.tables.items():
            write_atomically(folder / name, partial(table.to_csv, sep="\t", index=False))
        write_json(folder / NOTES_FILE, {"notes": self.lines})
