"""The commands. Errors are one line on stderr and exit 2 (usage) or 1 (failure), never a traceback.

This module parses arguments and opens what a command needs; each command is a function in a module beside it.
Over 400 lines: every command and its arguments are listed here.
"""

import argparse
import getpass
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from gateway import __version__
from gateway.domain.api_keys import SCOPES
from gateway.domain.errors import GatewayError
from gateway.domain.ids import TenantId
from gateway.domain.people import MEMBER_ROLES
from gateway.domain.secret import Secret
from gateway.settings import Settings, SettingsError, read_settings, with_shared
from gateway.store.audit import ORIGIN, Origin
from gateway.store.embedded.data_dir_lock import holders_note
from gateway.telemetry import configure_logging

if TYPE_CHECKING:
    from gateway.store.postgres.pool import Database
    from gateway.store.secrets.seal import MasterKeys

USAGE, FAILURE = 2, 1


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Exits with the command's code."""
    sys.exit(_main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "replay":
            from gateway.cli.replay import replay

            return replay(options.file, options.trunk, options.country, sys.stdout)
        if options.command == "keys" and options.action == "new":
            from gateway.store.secrets.seal import new_master_key

            print(new_master_key())
            return 0
        settings, options.taken = _settings(beside=options.command != "run")
        context = copy_context()
        if options.command != "run":
            context.run(ORIGIN.set, Origin("cli", _whereabouts()))
        configure_logging(settings.log_format, settings.log_level)
        return _first_of_group(partial(context.run, trio.run, partial(_COMMANDS[options.command], settings, options)))
    except SettingsError as error:
        _text(*error.problems)
        return USAGE
    except GatewayError as error:
        _text(error.person if not error.detail else f"{error.person} ({error.detail})")
        return FAILURE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        _text(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return FAILURE


def _whereabouts() -> str:
    """Account and machine of the command, for the audit trail; of a remote login its address too."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = str(os.getuid())
    remote = os.environ.get("SSH_CLIENT", "").partition(" ")[0]
    return f"{account}@{socket.gethostname()}{f' from {remote}' if remote else ''}"


def _settings(*, beside: bool) -> tuple[Settings, list[str]]:
    """The settings, and which of them come from the gateway that runs on DATA_DIR, for commands `beside` it. Whoever names a
    database has the environment of that installation, and nothing is taken."""
    settings = read_settings()
    if not beside or not settings.embedded or not (note := holders_note(settings.data_dir)):
        return settings, []
    try:
        shared = json.loads(note)
    except ValueError:
        return settings, []
    environment, taken = with_shared(os.environ, shared if isinstance(shared, dict) else {})
    return read_settings(environment), taken


def _first_of_group(command: Callable[[], int]) -> int:
    """Runs a command; of a group of errors, which a nursery makes even of one, the first is raised by itself."""
    try:
        return command()
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    raise first


def _text(*lines: str) -> None:
    for line in lines:
        print(f"gateway: {' '.join(line.split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway", description="The gateway between a company's phone system, its messengers and its CRM."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")

    add("run", "start the gateway; settings come from the environment")
    add("migrate", "bring the database schema up to date")
    apply = add("apply", "declare tenants from files (YAML or JSON)")
    apply.add_argument("file", nargs="+", help="tenant file")
    apply.add_argument("--dry-run", action="store_true", help="print what would change, change nothing")
    apply.add_argument(
        "--prune", action="store_true", help="remove what a tenant's block no longer names, never a tenant"
    )
    export = add("export", "print a tenant as a file that apply reads")
    export.add_argument("number", help="the tenant's number")
    export.add_argument("--reveal", action="store_true", help="print secrets in the clear")
    user = add("user", "people who sign in").add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("add", "add a person, or set a new password"),
        ("link", "print a one-time sign-in link"),
        ("reset-second-factor", "take the second factor of somebody who has lost it away"),
    ):
        action = user.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("email")
        whose = action.add_mutually_exclusive_group(required=name == "add")
        which = "" if name == "add" else " (left out: the only account with this address)"
        whose.add_argument("--tenant", metavar="NUMBER", help=f"of one company{which}")
        whose.add_argument("--operator", action="store_true", help="of the whole installation")
        if name == "add":
            action.add_argument(
                "--role",
                choices=[*MEMBER_ROLES],
                help="what the person is in the company; default: admin, or as it was",
            )
    key = add("api-key", "keys for call services and bots").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    create = key.add_parser("create", help="print a fresh key, once", description="Make a key and print it, once.")
    create.add_argument("number", help="the tenant's number")
    create.add_argument("--name", default="", help="what it is for")
    create.add_argument("--scope", action="append", default=[], choices=SCOPES, help="what it may do; default: call")
    create.add_argument("--days", type=_days, metavar="N", help="how long it lives; default: until it is revoked")
    rotate = key.add_parser(
        "rotate",
        help="a new key in the place of one",
        description="Print a new key in the place of one, which then lives for a day.",
    )
    rotate.add_argument("number", help="the tenant's number")
    rotate.add_argument("key", help="its name, or its first 16 characters")
    revoke = key.add_parser("revoke", help="end a key", description="End a key.")
    revoke.add_argument("number", help="the tenant's number")
    revoke.add_argument("key", help="its name, or its first 16 characters")
    keys = add("keys", "the master key").add_subparsers(dest="action", required=True, metavar="ACTION")
    keys.add_parser("new", help="print a fresh master key", description="Print a fresh master key for MASTER_KEY_FILE.")
    rotate = keys.add_parser(
        "rotate",
        help="new master key, re-encrypt every secret",
        description="Make a new master key and seal everything anew under it, while gateways run. Goes on where an "
        "earlier run was ended.",
    )
    rotate.add_argument(
        "--from-file",
        type=Path,
        metavar="FILE",
        help="the key file whose data keys are to be wrapped by Vault from now on",
    )
    tenant = add("tenant", "companies").add_subparsers(dest="action", required=True, metavar="ACTION")
    delete = tenant.add_parser(
        "delete",
        help="delete a company and everything of it",
        description="Delete a company: its rows, files, keys and sessions, and what was registered for it outside. Asks for the "
        "number again. Goes on where an earlier run was ended.",
    )
    delete.add_argument("number", help="the tenant's number")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    contact = add("contact", "one person's data").add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("export", "write a person's conversations, messages and files into a folder or a zip"),
        ("erase", "erase a person with their conversations, messages and files"),
    ):
        action = contact.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ". Calls are no part of it."
        )
        action.add_argument("number", help="the tenant's number")
        action.add_argument("contact", help="the contact's id, or a telephone number as +375296254070")
        if name == "export":
            action.add_argument("--to", type=Path, metavar="PATH", help="a new folder, or a file that ends in .zip")
        else:
            action.add_argument("--yes", action="store_true", help="do not ask")
    audit = add("audit", "the trail of who did what").add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = audit.add_parser(
        "verify",
        help="look for the first entry that was changed or taken out",
        description="Look for the first entry that was changed or taken out, the newest included. Exit 1 if there is one.",
    )
    verify.add_argument("number", nargs="?", help="of one company only; * is the operators' own trail")
    verify.add_argument(
        "--known",
        metavar="POSITION:HASH",
        help="what an earlier run printed for this company: it must still stand there",
    )
    ai = add("ai", "the AI operator").add_subparsers(dest="action", required=True, metavar="ACTION")
    rehearse = ai.add_parser(
        "replay",
        help="play scripted conversations with a model and score them",
        description="Play scripted conversations with a model on a database of their own and score them. Changes nothing of the "
        "installation.",
    )
    rehearse.add_argument("file", nargs="?", type=Path, help="conversations, YAML; default: our own, in two languages")
    rehearse.add_argument("--tenant", metavar="NUMBER", help="with this company's profile, catalog, prompt and model")
    rehearse.add_argument("--prompt", metavar="NAME", help="of the company; default: its active one")
    rehearse.add_argument("--version", type=_count, metavar="N", help="of that prompt; default: the newest")
    rehearse.add_argument("--model", default="", metavar="NAME", help="default: the company's, or GATEWAY_LLM_MODEL")
    rehearse.add_argument("--only", action="append", default=[], metavar="ID", help="this conversation alone")
    rehearse.add_argument("--report", type=Path, metavar="FILE", help="write the report there, JSON")
    rehearse.add_argument("--compare", type=Path, metavar="FILE", help="an earlier report")
    rehearse.add_argument("--print-requests", action="store_true", help="print what is sent to the model, JSON lines")
    rehearse.add_argument(
        "--by-the-book", action="store_true", help="ask no model: answer as the file expects, to see the requests"
    )
    rehearse.add_argument("--at-once", type=_count, default=4, metavar="N", help="conversations at once; default: 4")
    rehearse.add_argument("--least", type=_count, metavar="PERCENT", help="exit 1 below so many steps right")
    add("doctor", "check settings, database, keys, clock, each PBX and each integration")
    replay = add("replay", "print the call events of a captured AMI stream as JSON lines")
    replay.add_argument("file", help="capture, .ami or .ami.gz")
    replay.add_argument("--trunk", action="append", default=[], metavar="NAME", help="endpoint that is an outside line")
    replay.add_argument("--country", metavar="CC", help="region for reading national numbers")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("must be a number from 1")
    return int(text)


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3660:
        raise argparse.ArgumentTypeError("must be a number of days from 1 to 3660")
    return int(text)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[tuple["Database", "MasterKeys"]]:
    """The migrated database and the master key, for one command."""
    async with _open_migrated(settings) as (_, db, master):
        yield db, master


@asynccontextmanager
async def _open_migrated(
    settings: Settings, older: "MasterKeys | None" = None
) -> AsyncIterator[tuple[str, "Database", "MasterKeys"]]:
    from gateway.database import database_server
    from gateway.resources import open_master_keys
    from gateway.store.postgres.pool import open_database

    async with database_server(settings) as (addresses, _):
        await addresses.migrate()
        master = await open_master_keys(settings, may_create=settings.embedded, older=older)
        async with open_database(addresses.pool) as db:
            yield addresses.owner, db, master


async def _run(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.app import run

    return await run(settings)


async def _migrate(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.database import database_server

    async with database_server(settings) as (addresses, _):
        applied = await addresses.migrate()
    for name in applied:
        print(name)
    print(f"{len(applied)} applied; the schema is up to date")
    return 0


async def _apply(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.tenants import Refused, apply

    async with open_store(settings) as (db, master):
        try:
            lines = await apply(db, master, options.file, dry_run=options.dry_run, prune=options.prune)
        except Refused as refused:
            _text(*refused.problems, f"{len(refused.problems)} problems; nothing was changed")
            return FAILURE
    for line in lines:
        print(line)
    print(f"{len(lines)} {'would change' if options.dry_run else 'changed'}" if lines else "nothing to change")
    return 0


async def _export(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.tenants import Refused, export

    async with open_store(settings) as (db, master):
        try:
            print(await export(db, master, TenantId(options.number), reveal=options.reveal), end="")
        except Refused as refused:
            _text(*refused.problems)
            return FAILURE
    return 0


async def _user(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli import people
    from gateway.domain.new_passwords import wrong_with_password

    tenant = TenantId(options.tenant) if options.tenant is not None else None
    if options.action == "add":
        if options.operator and options.role:
            _text("--role is what somebody is in a company; an operator has none")
            return USAGE
        text = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
        if wrong := wrong_with_password(text, options.email.lower()):
            _text(f"the password {wrong}")
            return USAGE
    async with open_store(settings) as (db, _):
        if options.action == "add":
            return await people.add(db, tenant, options.email.lower(), Secret(text), _text, role=options.role)
        known = options.operator or tenant is not None
        if options.action == "reset-second-factor":
            return await people.reset_second_factor(db, tenant, options.email.lower(), _text, known=known)
        return await people.link(db, tenant, options.email.lower(), settings.base_url, _text, known=known)


async def _api_key(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli import api_keys

    async with open_store(settings) as (db, _):
        if options.action == "create":
            scopes = list(dict.fromkeys(options.scope))
            return await api_keys.create(db, TenantId(options.number), options.name, scopes, options.days, _text)
        if options.action == "rotate":
            return await api_keys.rotate(db, TenantId(options.number), options.key, _text)
        return await api_keys.revoke(db, TenantId(options.number), options.key, _text)


async def _keys(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.keys import rotate, rotate_in_vault
    from gateway.store.secrets.seal import load_master_keys, master_key_path
    from gateway.store.secrets.vault import VaultKeys

    source = options.from_file
    if source is not None and not settings.vault_url:
        _text(
            "--from-file moves data keys from a key file to Vault: set GATEWAY_VAULT_URL and GATEWAY_VAULT_TOKEN_FILE"
        )
        return USAGE
    if settings.vault_url:
        older = load_master_keys(source, source.parent, may_create=False) if source is not None else None
        async with _open_migrated(settings, older) as (dsn, db, master):
            assert isinstance(master, VaultKeys)
            return await rotate_in_vault(dsn, db, master, _text, moving=source is not None)

    file = master_key_path(settings.master_key_file, settings.data_dir, os.environ.get("CREDENTIALS_DIRECTORY"))
    async with _open_migrated(settings) as (dsn, db, _):
        return await rotate(dsn, db, file, _text)


async def _tenant(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.deletion import delete, sure

    number = TenantId(options.number)
    async with open_store(settings) as (db, master):
        if not options.yes and not await sure(db, number, _text):
            return FAILURE
        return await delete(settings, db, master, number, _text)


async def _contact(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.contacts import erase, export

    number = TenantId(options.number)
    async with open_store(settings) as (db, master):
        if options.action == "export":
            return await export(settings, db, master, number, options.contact, options.to, _text)
        return await erase(settings, db, master, number, options.contact, options.yes, _text)


async def _audit(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.audit import read_known, verify

    known = None
    if options.known is not None and (options.number is None or (known := read_known(options.known)) is None):
        _text("--known is POSITION:HASH as an earlier run printed it, and needs the company's number before it")
        return USAGE
    async with open_store(settings) as (db, _):
        return await verify(db, TenantId(options.number) if options.number is not None else None, known, _text)


async def _ai(settings: Settings, options: argparse.Namespace) -> int:
    from adapters.llm.client import ModelSettings
    from adapters.llm.protocol import ModelFailed
    from gateway.cli.ai_replay import Refused, Wanted, read_company, replay
    from gateway.resources import safe_dialer

    logging.getLogger("gateway.store").setLevel(logging.WARNING)  # of a database that is thrown away

    if options.tenant is None and (options.prompt is not None or options.version is not None):
        _text("--prompt and --version name a prompt of a company: give it by --tenant")
        return USAGE
    if options.version is not None and options.prompt is None:
        _text("--version is of the prompt that --prompt names")
        return USAGE
    wanted = Wanted(
        file=options.file, only=tuple(options.only), by_the_book=options.by_the_book, print_requests=options.print_requests,
        report=options.report, compare=options.compare, at_once=options.at_once,
    )  # fmt: skip
    default = ModelSettings(url=settings.llm_url, key=settings.llm_api_key, model=settings.llm_model)
    try:
        given = None
        if options.tenant is not None:
            async with open_store(settings) as (db, master):
                given = await read_company(db, master, TenantId(options.tenant), options.prompt, options.version)
        dial = await safe_dialer(settings)
        found = await replay(wanted, given, default if default.url else None, dial, options.model, print, _text)
    except Refused as refused:
        _text(*refused.problems)
        return FAILURE
    except ModelFailed as failure:
        _text(f"{failure.text}; to see the requests without a model, add --by-the-book")
        return FAILURE
    return FAILURE if options.least is not None and found["right"] * 100 < found["steps"] * options.least else 0


async def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from gateway.cli.doctor import doctor

    return await doctor(settings, options.taken)


_COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], Awaitable[int]]] = {
    "run": _run,
    "migrate": _migrate,
    "apply": _apply,
    "export": _export,
    "user": _user,
    "api-key": _api_key,
    "keys": _keys,
    "tenant": _tenant,
    "contact": _contact,
    "audit": _audit,
    "ai": _ai,
    "doctor": _doctor,
}
