"""The arrows between packages, and that importing them does nothing but import."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.rules.sources import PACKAGES, ROOT, imported_modules, module_level, module_name, python_files

FORBIDDEN = {
    "lpm_kernel": {"twin_assets", "twin_serving", "dagster", "dagster_aws", "fastapi", "starlette", "sse_starlette"},
    "twin_assets": {"twin_serving", "fastapi"},
    "twin_serving": {"twin_assets", "dagster", "dagster_aws"},
}
HEAVY = {
    "torch", "transformers", "peft", "llama_cpp", "mlx", "modal", "weaviate", "mem0", "graphiti_core", "spacy", "onnxruntime",
    "sklearn", "pandas", "pyarrow", "networkx", "gguf", "pdfminer",
    "langgraph", "langchain_core", "langsmith", "openai", "telethon", "tweepy", "requests",
}  # fmt: skip

AT_HOME = {"twin_assets/modal_app.py": {"modal"}, "twin_serving/modal_app.py": {"modal"}}
"""Declaring an app is done with its package at module level; nothing of ours imports that module."""

FOREIGN = {
    "lpm_kernel": "yaml,pydantic,sqlalchemy,psutil",
    "twin_assets": "yaml,pydantic,sqlalchemy,psutil,click,dagster,dagster_aws.s3,modal",
    "twin_serving": "yaml,pydantic,sqlalchemy,psutil,fastapi,sse_starlette,prometheus_client",
}

# Run in a process of its own: imports every module and reports what that did beside importing.
IMPORT_ALL = """
import importlib, json, sys
deeds = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and any(mark in arguments[1] for mark in "wax+"):
        if "__pycache__" not in str(arguments[0]):
            deeds.append(f"opened {arguments[0]} to write")
    elif event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.remove"):
        if "__pycache__" not in str(arguments):
            deeds.append(f"{event} {arguments[:1]}")
for name in sys.argv[1].split(","):
    importlib.import_module(name)  # what others do when they are imported is theirs
sys.addaudithook(watch)
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps({"deeds": deeds, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_along_the_arrows(package: str) -> None:
    crossing = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in python_files(package)
        if (found := {name.split(".")[0] for name in imported_modules(ast.parse(path.read_text()))} & FORBIDDEN[package])
    }
    assert crossing == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_heavy_package_is_imported_at_module_level(package: str) -> None:
    heavy: dict[str, set[str]] = {}
    for path in python_files(package):
        for node in module_level(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found = {name.split(".")[0] for name in imported_modules(node)} & HEAVY
                found -= AT_HOME.get(str(path.relative_to(ROOT)), set())
                if found:
                    heavy.setdefault(str(path.relative_to(ROOT)), set()).update(found)
    assert heavy == {}


def test_a_module_at_home_in_a_heavy_package_is_imported_by_no_other() -> None:
    homes = {module_name(ROOT / path) for path in AT_HOME}
    importers = {
        str(path.relative_to(ROOT)) for path in python_files(*PACKAGES) if homes & imported_modules(ast.parse(path.read_text()))
    }
    assert importers == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_environment_is_not_read_at_import(package: str) -> None:
    readers = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files(package)
        for node in module_level(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and isinstance(node.value, ast.Name)
    ]
    assert readers == []


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_every_module_opens_no_file_socket_or_process(package: str) -> None:
    names = [module_name(path) for path in python_files(package) if "migrations" not in path.parts]
    apart = {module_name(ROOT / path) for path in AT_HOME} | {f"{package}.__main__"}
    # twin_assets' foreign packages bring Modal already
    names = [name for name in names if name not in apart or (package == "twin_assets" and name != f"{package}.__main__")]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, FOREIGN[package], *names], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["deeds"] == []
    assert "lpm_kernel" in report["modules"]
    if package != "twin_assets":  # dagster-aws and dagster-postgres bring what they bring
        assert HEAVY & set(report["modules"]) == set()
