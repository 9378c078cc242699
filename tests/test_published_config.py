"""Published settings."""

import pytest

from encoders.published_config import read_settings


def test_read_settings_gives_the_object_of_a_file_without_faults(tmp_path):
    (tmp_path / "config.json").write_text('{"width": 4}')
    assert read_settings(tmp_path / "config.json", lambda raw: [], "Settings", "mend it") == {"width": 4}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[1]", r"it is no JSON object \(\[1\]\)"),
        (b"null", r"it is no JSON object \(None\)"),
        (b"{", r"it is no JSON object \(Expecting"),
        (b"\xff\xfe", r"it is no JSON object \(.utf-8. codec"),
        (b"{}", "width is missing\n  depth is missing"),
    ],
)
def test_read_settings_lists_the_faults_and_names_the_file(tmp_path, content, fault):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"^Settings of a network; got:\n  {fault}(.|\n)*  file: .*config\.json\n  fix: mend it\.$"
    ):
        read_settings(
            tmp_path / "config.json", lambda raw: ["width is missing", "depth is missing"], "Settings of a network", "mend it"
        )
