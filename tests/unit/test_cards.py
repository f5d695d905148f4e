"""A data card says where a data set comes from, and its checksum says that this is it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetf.config.language.data import CorpusConfig
from edgetf.core.errors import DataError, DeviceError
from edgetf.data.cards import DataCard, card_names, check_card, content_sha256, load_card
from edgetf.data.corpus.documents import read_documents
from edgetf.data.sources import installed_path
from edgetf.data.tables import read_table


def card(sha256: str) -> DataCard:
    return DataCard(
        name="c", title="t", origin="o", license="l", get="pip install c", source="s", sha256=sha256, rows=1
    )


@pytest.mark.parametrize("name", card_names())
def test_every_card_loads_and_names_origin_and_license(name: str) -> None:
    found = load_card(name)
    assert found is not None
    assert found.name == name
    assert found.origin and found.license and found.get


@pytest.mark.parametrize("name", card_names())
def test_every_card_fits_its_data(name: str) -> None:
    found = load_card(name)
    assert found is not None
    try:
        path = installed_path(found.source)
    except DeviceError as error:
        pytest.skip(f"needs {found.get}: {error}")
    check_card(found, path)
    if found.tagged:
        assert len(read_documents(CorpusConfig(sources=(name,)), name)) == found.rows
        return
    rows = read_table(path, found.encoding)
    assert len(rows) == found.rows
    assert {found.text, found.label} <= set(rows[0])


@pytest.mark.parametrize("name", ["no_such_card", "../devices/host", "", "bbc_news.yaml"])
def test_what_is_no_card_is_none(name: str) -> None:
    assert load_card(name) is None


def test_the_checksum_feels_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.txt").write_text("one")
    before = content_sha256(tmp_path / "x")
    assert before == content_sha256(tmp_path / "x")
    (tmp_path / "x" / "1.txt").write_text("two")
    changed = content_sha256(tmp_path / "x")
    (tmp_path / "x" / "1.txt").rename(tmp_path / "x" / "2.txt")
    assert len({before, changed, content_sha256(tmp_path / "x")}) == 3


def test_other_data_than_the_cards_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n")
    check_card(card(content_sha256(path)), path)
    path.write_text("text,label\nnew,x\n")
    with pytest.raises(DataError, match=r"c: .* has sha256 .*…, its card says 0{12}…; pip install c"):
        check_card(card("0" * 64), path)
