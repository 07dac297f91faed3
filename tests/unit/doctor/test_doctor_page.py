import re
from pathlib import Path

from mlipbench.conformance.catalogue import CHECKS
from mlipbench.testing.liars import LIES

PAGE = (Path(__file__).parents[3] / "docs/reference/doctor.md").read_text(encoding="utf-8")


def test_the_page_explains_every_check_and_no_other():
    assert re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE) == list(CHECKS)


def test_the_page_counts_the_liars():
    assert f"made wrong in {len(LIES)} ways" in PAGE
