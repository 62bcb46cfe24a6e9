"""The table of rooms in ARCHITECTURE.md, held by reading the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("ae_model", "pipelines", "infra")
WIRING = {"pipelines", "infra", "tests", "apache_beam", "kafka", "pyarrow", "tfx_bsl"}
TENSORFLOW = {"tensorflow", "keras"}
KNOW_TENSORFLOW = {
    "networks",
    "training",
    "descent",
    "progress",
    "curves",
    "keras_hooks",
    "artifact",
    "verify",
    "model",
}
# What a command does from end to end; they may share parts with each other.
PROGRAMS = {f"pipelines.{name}" for name in ("stream", "backfill", "train", "train_keys", "bench")}
COMMAND_LINE = {"pipelines.cli", "pipelines.commands"}


def find_imports(source, module, is_package=False):
    """All modules and names that a module's source imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            found.update({origin, *(f"{origin}.{alias.name}" for alias in node.names)})
    return found


def read_modules():
    modules = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = find_imports(path.read_text(encoding="utf-8"), name, is_package)
    return modules


MODULES = read_modules()


def lies_in(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def breaches(importers, forbidden):
    """Pairs of a module in ``importers`` and what it imports from ``forbidden``, both given as tests of a name."""
    return sorted(
        (module, name) for module, names in MODULES.items() if importers(module) for name in names if forbidden(name)
    )


def test_imports_are_found_wherever_they_hide():
    source = """
import a.b as c
from d import e
if True:
    from . import f
def function():
    from ..g import h
"""

    assert find_imports(source, "top.room.module") == {
        "a.b",
        "d",
        "d.e",
        "top.room",
        "top.room.f",
        "top.g",
        "top.g.h",
    }
    assert find_imports("from .x import y", "top.room", is_package=True) == {"top.room.x", "top.room.x.y"}


def test_all_rooms_are_read():
    assert {"ae_model.networks.linear", "ae_model.model", "pipelines.graph", "pipelines.frame_batch"} <= set(MODULES)
    assert "ae_model.verify" in MODULES["ae_model.model"]


def test_the_core_knows_nothing_of_the_wiring():
    assert breaches(lambda module: lies_in(module, {"ae_model"}), lambda name: lies_in(name, WIRING)) == []


def test_the_core_needs_few_libraries():
    allowed = {
        *sys.stdlib_module_names,
        "ae_model",
        "numpy",
        "scipy",
        "sklearn",
        "pystoi",
        "tensorflow",
        "keras",
        "google",
    }

    assert breaches(lambda module: lies_in(module, {"ae_model"}), lambda name: name.split(".")[0] not in allowed) == []


def test_few_files_of_the_core_know_tensorflow():
    rooms = {f"ae_model.{name}" for name in KNOW_TENSORFLOW}

    assert (
        breaches(
            lambda module: lies_in(module, {"ae_model"}) and not lies_in(module, rooms),
            lambda name: lies_in(name, TENSORFLOW),
        )
        == []
    )


def test_the_core_reads_no_clock_and_no_environment():
    clocks = {"time", "datetime", "os.environ", "os.getenv"}
    attributes = sorted(
        (str(path.relative_to(ROOT)), node.attr)
        for path in (ROOT / "ae_model").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    )

    assert breaches(lambda module: lies_in(module, {"ae_model"}), lambda name: lies_in(name, clocks)) == []
    assert attributes == []


def test_the_graph_knows_no_source_sink_option_or_command():
    forbidden = {"pipelines.kafka", "pipelines.parquet", "pipelines.options", *PROGRAMS, *COMMAND_LINE}

    assert breaches(lambda module: module == "pipelines.graph", lambda name: lies_in(name, forbidden)) == []


def test_sources_and_sinks_do_not_know_the_graph():
    assert (
        breaches(lambda module: lies_in(module, {"pipelines.kafka"}), lambda name: lies_in(name, {"pipelines.graph"}))
        == []
    )


def test_records_and_formats_do_not_know_beam():
    rooms = {"pipelines.frame_batch", "pipelines.formats", "pipelines.records"}

    assert breaches(lambda module: lies_in(module, rooms), lambda name: lies_in(name, {"apache_beam"})) == []


def test_programs_are_imported_by_commands_and_each_other_alone():
    assert (
        breaches(
            lambda module: not lies_in(module, PROGRAMS | COMMAND_LINE),
            lambda name: lies_in(name, PROGRAMS),
        )
        == []
    )


def test_the_command_line_is_imported_by_itself_alone():
    assert breaches(lambda module: not lies_in(module, COMMAND_LINE), lambda name: lies_in(name, COMMAND_LINE)) == []
    assert breaches(lambda module: True, lambda name: lies_in(name, {"pipelines.cli"})) == []


def test_nothing_imports_infra_or_tests():
    assert breaches(lambda module: not lies_in(module, {"infra"}), lambda name: lies_in(name, {"infra"})) == []
    assert breaches(lambda module: True, lambda name: lies_in(name, {"tests"})) == []


@pytest.mark.parametrize(
    "module", ["artifact", "calibration", "codes", "config", "frames", "receiver", "metrics.ranking"]
)
def test_what_commands_and_readers_use_starts_without_tensorflow(module):
    code = f"import sys, ae_model.{module}; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert printed == "[]\n"
