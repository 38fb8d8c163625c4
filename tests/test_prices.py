"""Prices of accelerators: of options, files and specifications."""

import pytest
from factories import shipped

from sweep.cli.catalog_tables import figure_rows
from sweep.decisions.prices import parse_prices, price_of, read_prices
from sweep.errors import SpecError
from sweep.specs.catalog import Catalog
from sweep.specs.hardware import HardwareSpec
from sweep.specs.parsing import parse


def test_prices_of_files(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("h20-96gb: 1.5\nl20: 1\n")
    (tmp_path / "p.csv").write_text("hardware,price_usd_per_hour,seller\nh20-96gb,1.5,a\nl20,1,b\n")
    for name in ("p.yaml", "p.csv"):
        assert read_prices(tmp_path / name) == {"h20-96gb": 1.5, "l20": 1.0}
    assert parse_prices(["l20=2", "l20=3"]) == {"l20": 3.0}


def test_a_table_as_a_spreadsheet_writes_it(tmp_path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("hardware,price_usd_per_hour\r\nl20,1\r\n", encoding="utf-8-sig")
    assert read_prices(path) == {"l20": 1.0}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.yaml", "h20-96gb: free\n", "h20-96gb: the hourly price must be a number above 0"),
        ("p.yaml", "h20-96gb: -1\n", "above 0"),
        ("p.csv", "name,usd\nl20,1\n", "must have the columns"),
        ("p.csv", "hardware,price_usd_per_hour\nl20,1\nl20,2\n", "l20 is listed twice"),
        ("p.csv", "hardware,price_usd_per_hour\nl20,\n", "above 0"),
    ],
)
def test_what_is_no_price_is_refused(tmp_path, name, text, words) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpecError, match=words):
        read_prices(tmp_path / name)


def spec_with(price: object) -> HardwareSpec:
    given = shipped().hardware("l20").model_dump(by_alias=True)
    return parse(HardwareSpec, given | {"price_usd_per_hour": price}, "mine")


def test_a_price_of_a_specification_has_a_source_and_a_date() -> None:
    whole = {"value": 1.5, "source": "https://example.org", "date": "2026-01-31"}
    assert price_of(spec_with(whole), {}) == 1.5
    assert price_of(spec_with(whole), {"l20": 1.0}) == 1.0
    assert price_of(shipped().hardware("l20"), {}) is None
    shown = {row["figure"]: row for row in figure_rows(spec_with(whole))}["price_usd_per_hour"]
    assert (shown["value"], shown["source"]) == (1.5, "https://example.org, 2026-01-31")
    for key in ("source", "date"):
        with pytest.raises(SpecError, match=f"price_usd_per_hour.{key}: missing"):
            spec_with({k: v for k, v in whole.items() if k != key})
    with pytest.raises(SpecError, match="date"):
        spec_with(whole | {"date": "last year"})


def test_no_shipped_accelerator_has_a_price() -> None:
    catalog = Catalog()
    specs = [catalog.hardware(name) for name in catalog.paths("hardware")]
    assert all(spec.price_usd_per_hour is None for spec in specs)
