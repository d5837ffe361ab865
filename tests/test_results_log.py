"""The measured results stay one page, and the log of experiments keeps its form."""

import re
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
FIELDS = ["Tried", "Result", "Decision", "Commit"]


def entries() -> list[tuple[str, str]]:
    """Title and body of every entry of the log."""
    parts = re.split(r"^## (.+)$", (BENCHMARKS / "LOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_results_are_one_page() -> None:
    lines = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_every_claim_has_a_date_a_commit_and_a_table() -> None:
    for section in re.split(r"^## ", (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        if "as at the top" not in section:
            assert re.search(r"\d{4}-\d\d-\d\d", section), section
            assert re.search(r"`[0-9a-f]{7}`", section), section
            assert "benchmarks/" in section, section
        assert "\n|---|" in section, section


def test_log_entries_have_dates_verdicts_and_fields() -> None:
    for title, body in entries():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d: .+ \((positive|negative|neutral)\)", title), title
        assert re.findall(r"^\*\*(\w+)\*\*: \S", body, flags=re.MULTILINE) == FIELDS, title
        assert re.search(r"`[0-9a-f]{7}`", body.rpartition("**Commit**")[2]), title


def test_log_is_newest_first_and_titles_are_unique() -> None:
    titles = [title for title, _ in entries()]
    dates = [title.partition(":")[0] for title in titles]
    assert dates == sorted(dates, reverse=True)
    assert len(set(titles)) == len(titles)
