"""What is written about the project is true of it: paths, tables, commands, imports, names, docstrings, sizes, the unit."""

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from actors import housekeeping
from actors.calls import calls_book
from actors.delivery import handover, worker
from actors.runtime import sessions
from actors.runtime.supervisor import RestartPolicy
from adapters.registry import OURS, adapters
from gateway.cli import main
from gateway.settings import Settings, read_settings, variables
from gateway.store.postgres.migrate import read_migrations
from gateway.tenant_file import read_tenant_files
from tests import readme_tables
from tests.readme_tables import PAGES, ROOT, commands, tables, written

PACKAGES = ("gateway", "actors", "adapters")
README = ROOT / "README.md"


@cache
def modules() -> dict[str, ast.Module]:
    """The program's modules by path, parsed."""
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            found[str(file.relative_to(ROOT))] = ast.parse(file.read_text("utf-8"))
    return found


def pages() -> dict[str, str]:
    return {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}


# What the pages say


@pytest.mark.parametrize("page", pages())
def test_tables_equal_the_code(page: str) -> None:
    text = pages()[page]
    assert text == written(text), "run `python -m tests.readme_tables --write`"


def test_every_table_is_there_once() -> None:
    placed = [name for text in pages().values() for name, _ in readme_tables.MARKED.findall(text)]
    assert sorted(placed) == sorted(tables())


PATH = re.compile(r"(?<![\w/.])(?:(?:gateway|actors|adapters|tests|systemd|docs|migrations|benchmarks)/[\w./-]*\w)")


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md"])
def test_paths_named_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    shown = re.sub(r"(?:https?://|postgresql://|/etc/|/opt/|/var/|\$)\S+", "", text)
    missing = [path for path in PATH.findall(shown) if not (ROOT / path.split("#")[0]).exists()]
    assert missing == []


def test_links_between_pages_lead_somewhere() -> None:
    for page, text in pages().items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            there = (ROOT / page).parent / path
            assert there.exists(), target
            if anchor:
                heads = [line for line in there.read_text("utf-8").splitlines() if line[:1] == "#"]
                assert anchor in [line.lstrip("# ").lower().replace(" ", "-") for line in heads], target


def test_the_tree_is_the_one_drawn() -> None:
    drawn = README.read_text("utf-8").partition("## The tree")[2].partition("\n\n")[2].partition("\n\n")[0]
    parents: list[str] = []
    for line in drawn.splitlines():
        name = line.split()[0].rstrip("/")
        depth = (len(line) - len(line.lstrip()) - 4) // 2
        parents[depth:] = [name]
        assert (ROOT / "/".join(parents)).is_dir(), line
    top = {
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name != "var"
    }
    assert {line.split()[0].rstrip("/") for line in drawn.splitlines() if line[4] != " "} >= top - {"__pycache__"}


def test_one_call_goes_through_six_files() -> None:
    text = README.read_text("utf-8").partition("### One call, six files")[2]
    steps = re.findall(r"^    (\d)  (\S+\.py)", text, re.MULTILINE)
    assert [number for number, _ in steps] == ["1", "2", "3", "4", "5", "6"]
    assert all((ROOT / path).is_file() for _, path in steps)


def test_commands_are_the_documented_ones(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(r"^\| `gateway ([a-z-]+(?: [a-z-]+)*)(?: [A-Z…]+)*` \|", README.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(commands())
    for words in rows:
        with pytest.raises(SystemExit) as ended:
            main([*words.split(), "--help"])
        assert ended.value.code == 0
        assert f"usage: gateway {words}" in capsys.readouterr().out


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md", "systemd/gateway.service"])
def test_whatever_is_called_a_command_is_one(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    said = set(
        re.findall(
            r"(?:`|^    |; |run)gateway ((?:user|keys|audit|tenant|contact|ai) [a-z-]+|[a-z]+)(?=[` >\n])",
            text,
            re.MULTILINE,
        )
    )
    assert said <= {*commands()}, page
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )(?:[A-Z_]+=\d+ )?make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_settings_named_anywhere_exist() -> None:
    known = {*variables(), *(f"{name}_FILE" for name in variables())}
    files = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "systemd").iterdir()]
    for file in files:
        named = set(re.findall(r"GATEWAY_[A-Z_]+[A-Z]", file.read_text("utf-8")))
        assert named <= known, file


def test_the_example_of_a_tenant_file_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tenant-file.md").read_text("utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    file = tmp_path / "tenants.yaml"
    file.write_text(example)
    tenants, problems = read_tenant_files([str(file)])
    assert problems == []
    (only,) = tenants
    assert {link.name for link in only.integrations} == {kind for kind, one in adapters().items() if not one.is_pbx}


def test_log_events_and_counters_named_in_operations_exist() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    code = "".join((ROOT / path).read_text("utf-8") for path in modules())
    for event in re.findall(r"log events? `([a-z ]+)`", text):
        assert f'"{event}"' in code, event
    for counter in re.findall(r"gateway_([a-z_]+)_total", text):
        assert f'"{counter}"' in code, counter
    for gauge in re.findall(r"`gateway_([a-z_]+?)(?:\{[^`]*)?`", text):
        if not gauge.endswith("_total") and gauge not in ("app", "engine"):
            assert f'"{gauge}' in code or f"'{gauge}" in code, gauge


def test_figures_are_those_of_the_code() -> None:
    hours = int(calls_book.FORGOTTEN_AFTER.total_seconds() / 3600)
    days = int(housekeeping.KEEP_DELIVERIES_S / 86400)
    assert housekeeping.KEEP_POSTS_S == housekeeping.KEEP_DELIVERIES_S
    for page, said in (
        ("docs/choices.md", f"waits {calls_book.AMI_GRACE_S:g} s for AMI to report it"),
        ("docs/choices.md", f"nothing is received for {hours} h ends"),
        (
            "docs/choices.md",
            f"posts and deliveries {days} days, logs of attempts {housekeeping.KEEP_LOGS_S / 86400:g} days",
        ),
        ("docs/operations.md", f"after its lease of {handover.LEASE_S:g} s"),
        ("docs/operations.md", f"lets deliveries finish for {Settings().grace_s:g} s"),
        (
            "docs/operations.md",
            f"more than {['', 'one', 'two', 'three', 'four', 'five'][RestartPolicy().intensity]} times in",
        ),
    ):
        assert said in " ".join(pages()[page].split()), said
    assert (sessions.ATTENTION_PAUSE_S, worker.ATTENTION_PAUSE_S) == (600, 300)  # "ten minutes", "five minutes"
    assert (sessions.BACKOFF_CAP_S, worker.BREAKER_PAUSE_S, worker.BREAKER_CAP_S) == (60, 5, 20)


def test_nothing_points_outside_the_repository() -> None:
    for file in [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "systemd").iterdir(), *map(ROOT.joinpath, modules())]:
        assert not re.search(
            r"\.\./shared|contract\.md|style\.md|reliability\.md|decisions\.md", file.read_text("utf-8")
        ), file


# The unit


def test_the_unit_s_environment_is_valid() -> None:
    lines = (ROOT / "systemd" / "gateway.env.example").read_text().splitlines()
    pairs = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert not read_settings(pairs).embedded


# The code


def test_import_contracts() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


LONG = re.compile(r"\b(?:long|longer|over \d00 lines)\b", re.IGNORECASE)


@pytest.mark.parametrize("path", modules())
def test_a_module_says_what_it_is_and_why_it_is_long(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    if not text and path.endswith("__init__.py"):
        return
    said = ast.get_docstring(modules()[path])
    assert said, "a module begins with what it owns"
    lines = text.count("\n")
    if lines > 400:
        assert LONG.search(said), f"{lines} lines, and no word why"


def test_a_long_test_module_says_why_too() -> None:
    for file in sorted((ROOT / "tests").rglob("*.py")):
        text = file.read_text("utf-8")
        if text.count("\n") > 400:
            said = ast.get_docstring(ast.parse(text)) or ""
            assert LONG.search(said), f"{file.relative_to(ROOT)}: no word why it is long"


NAMES = re.compile("|".join(OURS), re.IGNORECASE)
ALLOWED = {
    # What Asterisk puts in the place of a caller id it does not have: a value from outside, not the adapter.
    ("gateway/domain/numbers.py", "asterisk"),
    # A scope of API keys, which is part of what others have entered: a word of ours, not the adapter.
    ("gateway/domain/api_keys.py", "telegram"),
    # A path of the restaurant cloud, the same under both of its names.
    ("adapters/till/guests.py", "/api/1/loyalty/iiko/customer/"),
    # Hosts of Meta, of whichever messenger.
    *(("adapters/meta_files.py", host) for host in ("whatsapp.net", "cdninstagram.com", "instagram.com")),
}


def named(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Adapters' names in identifiers, imports and strings; docstrings may speak of anything."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in said:
                words = [text]
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text) | ast.keyword(arg=str(text)):
                words = [text]
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                words = [text]
            case ast.Import(names=names):
                words = [alias.name for alias in names]
            case ast.ImportFrom(module=str(text), names=names):
                words = [text, *(alias.name for alias in names)]
            case _:
                continue
        for word in words:
            if NAMES.search(word):
                yield getattr(node, "lineno", 0), word


def test_an_adapter_s_name_stays_in_its_folder() -> None:
    found = []
    for path, tree in modules().items():
        home = path.split("/")[1] if path.startswith("adapters/") else ""
        for line, word in named(tree):
            own = home in OURS and set(NAMES.findall(word.lower())) == {home}
            if not own and path != "adapters/registry.py" and (path, word) not in ALLOWED:
                found.append(f"{path}:{line}: {word[:60]!r}")
    for folder in ("templates", "static", "texts"):
        for file in sorted((ROOT / "gateway" / "web" / folder).rglob("*")):
            if file.suffix in (".html", ".css", ".js", ".toml", ".svg") and NAMES.search(file.read_text("utf-8")):
                found.append(str(file.relative_to(ROOT)))
    assert found == []


def test_every_adapter_has_the_same_files_and_tests() -> None:
    for kind, adapter in adapters().items():
        folder = ROOT / "adapters" / kind
        names = {file.stem for file in folder.glob("*.py")}
        if not adapter.client.__module__.startswith(f"adapters.{kind}."):  # one system under two names has one core
            core = adapter.client.__module__.split(".")[1]
            names |= {file.stem for file in (ROOT / "adapters" / core).glob("*.py")}
        assert {"__init__", "settings"} <= names
        assert {"texts.toml", "icon.svg", "example.yaml"} <= {file.name for file in folder.iterdir()}
        assert {"codec", "client"} <= names or (adapter.is_pbx and {"protocol", "calls", "session"} <= names)
        assert list((ROOT / "tests" / "adapters" / kind).glob("test_*.py"))
        assert adapter.kind == kind


def test_sql_stays_in_the_store() -> None:
    statement = re.compile(r"\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM)\b.*\b(?:FROM|VALUES|SET|WHERE)\b", re.DOTALL)
    for path, tree in modules().items():
        if not path.startswith("gateway/store/"):
            texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and statement.search(text)], path


def test_the_broad_catch_is_in_few_places() -> None:
    """Where a crash must stop: the supervisor, a delivery, and the listeners at the edge of a request."""
    for path, tree in modules().items():
        if path in ("actors/runtime/supervisor.py", "actors/delivery/worker.py") or path.startswith("gateway/web/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name):
                assert node.type.id not in ("Exception", "BaseException") or isinstance(node.body[-1], ast.Raise), (
                    f"{path}:{node.lineno}"
                )


def test_migrations_are_numbered() -> None:
    found = read_migrations()
    assert [migration.version for migration in found] == list(range(1, len(found) + 1))
    assert {path.name for path in (ROOT / "migrations").iterdir() if path.suffix == ".sql"} == {
        f"{one}.sql" for one in found
    }


# Telemetry


def log_calls() -> Iterator[tuple[str, int, ast.Call]]:
    levels = {"debug", "info", "warning", "error", "exception"}
    for path, tree in modules().items():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if level in levels:
                    yield path, node.lineno, node


def extra_of(call: ast.Call) -> set[str]:
    (given,) = [keyword.value for keyword in call.keywords if keyword.arg == "extra"] or [ast.Dict([], [])]
    assert isinstance(given, ast.Dict), "`extra` is written out, so that its fields can be found"
    return {str(key.value) for key in given.keys if isinstance(key, ast.Constant)}


def documented_events() -> dict[str, set[str]]:
    said = ast.get_docstring(modules()["gateway/telemetry.py"]) or ""
    rows = re.findall(r"^\| `([^`]+)`\s*\|([^|]+)\|", said, re.MULTILINE)
    return {event: {field.strip() for field in fields.split(",")} for event, fields in rows}


def test_an_event_of_the_log_is_a_constant_text() -> None:
    reserved = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    for path, line, call in log_calls():
        where = f"{path}:{line}"
        assert call.args, where
        assert isinstance(call.args[0], ast.Constant), f"{where}: what changes goes into `extra`"
        assert not extra_of(call) & reserved, where


def test_the_documented_events_are_logged_with_their_fields() -> None:
    bound = {"tenant", "integration", "call", "chat", "correlation", "actor"}  # come from the context
    logged: dict[str, set[str]] = {}
    for _, _, call in log_calls():
        if isinstance(call.args[0], ast.Constant):
            logged.setdefault(str(call.args[0].value), set()).update(extra_of(call))
    events = documented_events()
    assert events
    for event, fields in events.items():
        assert event in logged, f"{event} is documented and never logged"
        assert fields - bound <= logged[event], event
