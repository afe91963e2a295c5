"""Sealed values open in their own place and nowhere else; key files are read strictly."""

import itertools
import logging
import os
from pathlib import Path

import pytest

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store.postgres.errors import BadMasterKey, Unsealable
from gateway.store.secrets.seal import (
    MasterKeys,
    Sealer,
    load_master_keys,
    new_data_key,
    new_master_key,
    parse_master_keys,
    write_master_keys,
)

TENANT, OTHER = TenantId("0367"), TenantId("0368")
PLACE = {"table": "integrations", "column": "api_key", "row": "retailcrm"}


@pytest.fixture
def keys() -> MasterKeys:
    return parse_master_keys(new_master_key())


@pytest.fixture
def sealer(keys: MasterKeys) -> Sealer:
    return keys.sealer(TENANT, keys.wrap(TENANT, new_data_key()))


@pytest.mark.parametrize("text", ["", "hunter2", "пароль: \U0001f511", "a:b:c", "\udc80", "x" * 10_000])
def test_what_is_sealed_opens(keys: MasterKeys, sealer: Sealer, text: str) -> None:
    sealed = sealer.seal(Secret(text), **PLACE)
    assert sealed.split(":")[:4] == ["enc", "v1", keys.current.id, "1"]
    assert sealed.count(":") == 5
    assert sealer.is_current(sealed)
    assert sealer.open(sealed, **PLACE) == Secret(text)
    assert sealer.seal(Secret(text), **PLACE) != sealed


@pytest.mark.parametrize("part", ["table", "column", "row"])
def test_a_value_moved_to_another_place_does_not_open(sealer: Sealer, part: str) -> None:
    sealed = sealer.seal(Secret("hunter2"), **PLACE)
    with pytest.raises(Unsealable) as caught:
        sealer.open(sealed, **{**PLACE, part: "elsewhere"})
    assert "hunter2" not in f"{caught.value} {caught.value.person}"
    assert sealed.split(":")[5] not in f"{caught.value} {caught.value.person}"


def test_a_value_moved_to_another_tenant_does_not_open(keys: MasterKeys, sealer: Sealer) -> None:
    sealed = sealer.seal(Secret("hunter2"), **PLACE)
    data_key = new_data_key()
    one, other = (Sealer(tenant, data_key, master_id=keys.current.id) for tenant in (TENANT, OTHER))
    with pytest.raises(Unsealable):
        one.open(sealed, **PLACE)
    # Even under the same data key.
    with pytest.raises(Unsealable):
        other.open(one.seal(Secret("hunter2"), **PLACE), **PLACE)


def test_places_do_not_run_into_each_other(sealer: Sealer) -> None:
    sealed = sealer.seal(Secret("x"), table="ab", column="c", row="d")
    for table, column, row in (("a", "bc", "d"), ("abc", "", "d"), ("ab", "cd", ""), ("", "abc", "d")):
        with pytest.raises(Unsealable):
            sealer.open(sealed, table=table, column=column, row=row)


def test_every_changed_character_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal(Secret("hunter2"), **PLACE)
    for place, dead_letter in itertools.product(range(len(sealed)), "A0:é"):
        if sealed[place] != dead_letter:
            with pytest.raises(Unsealable):
                sealer.open(sealed[:place] + dead_letter + sealed[place + 1 :], **PLACE)
    for text in ("", "hunter2", "***", sealed + ":", sealed[:-1], sealed * 2, "enc:v1:::::"):
        with pytest.raises(Unsealable):
            sealer.open(text, **PLACE)


def test_a_data_key_is_its_tenants_own(keys: MasterKeys) -> None:
    data_key = new_data_key(3)
    wrapped = keys.wrap(TENANT, data_key)
    assert keys.unwrap(TENANT, wrapped) == data_key
    for tenant, text in ((OTHER, wrapped), (TENANT, wrapped.replace(":3:", ":4:")), (TENANT, wrapped[:-2] + "AA")):
        with pytest.raises(Unsealable):
            keys.unwrap(tenant, text)


def test_rotation_opens_the_old_and_seals_with_the_new(keys: MasterKeys, sealer: Sealer) -> None:
    old_wrapped = keys.wrap(TENANT, new_data_key(1))
    old = keys.sealer(TENANT, old_wrapped)
    sealed = old.seal(Secret("hunter2"), **PLACE)
    both = parse_master_keys(f"{new_master_key()}\n{keys.current.line()}\n")
    assert both.ids[1:] == keys.ids
    new_wrapped = both.wrap(TENANT, new_data_key(2))
    during = both.sealer(TENANT, new_wrapped, old_wrapped)
    assert not during.is_current(sealed)
    again = during.seal(during.open(sealed, **PLACE), **PLACE)
    assert during.is_current(again)
    after = parse_master_keys(both.current.line())
    assert after.sealer(TENANT, new_wrapped).open(again, **PLACE) == Secret("hunter2")
    with pytest.raises(Unsealable, match=keys.current.id):
        after.unwrap(TENANT, old_wrapped)
    with pytest.raises(Unsealable, match="data key 1"):
        after.sealer(TENANT, new_wrapped).open(sealed, **PLACE)


def test_a_damaged_key_file_is_refused_without_being_quoted() -> None:
    line = new_master_key()
    for place in range(len(line)):
        for damaged in (line[:place] + line[place + 1 :], line[:place] + "#" + line[place + 1 :]):
            if damaged.split() != line.split() and not damaged.startswith("#"):
                with pytest.raises(BadMasterKey) as caught:
                    parse_master_keys(damaged)
                assert line.split()[2][:8] not in caught.value.person
    for text in ("", "\n# nothing\n", f"{line}\n{line}", "hunter2"):
        with pytest.raises(BadMasterKey):
            parse_master_keys(text)


def test_keys_never_print(keys: MasterKeys) -> None:
    data_key = new_data_key()
    assert repr(data_key.key) not in repr(data_key)
    assert repr(keys.current.key) not in f"{keys.current!r} {keys!r}"


def test_the_first_start_makes_a_key_when_allowed(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    with pytest.raises(BadMasterKey, match="gateway keys new"):
        load_master_keys(None, data_dir, may_create=False)
    made = load_master_keys(None, data_dir, may_create=True)
    file = data_dir / "master.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(data_dir.iterdir()) == [file]
    for may_create in (True, False):
        assert load_master_keys(None, data_dir, may_create=may_create).ids == made.ids


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    named, credentials = tmp_path / "named", tmp_path / "credentials"
    credentials.mkdir()
    named.write_text(new_master_key())
    (credentials / "master.key").write_text(new_master_key())
    ids = [
        load_master_keys(path, tmp_path / "var", may_create=True, credentials_directory=folder).ids
        for path, folder in ((named, str(credentials)), (None, str(credentials)), (None, None), (None, str(tmp_path)))
    ]
    assert len(set(ids[:3])) == 3
    assert ids[3] == ids[2]
    with pytest.raises(BadMasterKey, match="missing"):
        load_master_keys(tmp_path / "missing", tmp_path / "var", may_create=True)


def test_files_that_cannot_be_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "binary").write_bytes(os.urandom(40) + b"\xff")
    for path in (tmp_path, tmp_path / "binary"):
        with pytest.raises(BadMasterKey):
            load_master_keys(path, tmp_path, may_create=False)
    (tmp_path / "open").write_text(new_master_key())
    (tmp_path / "open").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load_master_keys(tmp_path / "open", tmp_path, may_create=False)
    assert "chmod 600" in caplog.text


def test_a_key_file_is_replaced_as_a_whole(tmp_path: Path, keys: MasterKeys) -> None:
    file = tmp_path / "master.key"
    file.write_text("# mine: ключ\nold")
    file.chmod(0o640)
    (tmp_path / "master.key.77.new").write_text("left by a process that was killed")
    link = tmp_path / "link"
    link.symlink_to(file)
    other = parse_master_keys(new_master_key())
    write_master_keys(link, [keys.current, other.current])
    assert load_master_keys(file, tmp_path, may_create=False).ids == (keys.current.id, other.current.id)
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.read_text("utf-8").startswith("# mine: ключ\n")
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, file]


def test_a_key_added_to_the_file_is_found_and_the_file_is_looked_at_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, expected_errors: None
) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.store.secrets.seal.time.monotonic", lambda: now)
    file = tmp_path / "master.key"
    file.touch(0o600)
    file.write_text(new_master_key())
    running = load_master_keys(file, tmp_path, may_create=False)
    first = running.current
    fresh, third = (parse_master_keys(new_master_key()).current for _ in range(2))
    wrapped, unknown = fresh.wrap(TENANT, new_data_key()), third.wrap(TENANT, new_data_key())
    with pytest.raises(Unsealable, match=fresh.id):
        running.unwrap(TENANT, wrapped)
    write_master_keys(file, [fresh, first])
    looks = 0
    stat = Path.stat

    def counted(self: Path, **more: bool) -> os.stat_result:
        nonlocal looks
        looks += self == file
        return stat(self, **more)

    monkeypatch.setattr(Path, "stat", counted)
    with pytest.raises(Unsealable):
        running.unwrap(TENANT, wrapped)  # looked at a moment ago
    now += 1
    assert running.unwrap(TENANT, wrapped).version == 1
    assert (running.current, running.ids, looks) == (fresh, (fresh.id, first.id), 1)
    for _ in range(1000):
        now += 0.001
        with pytest.raises(Unsealable, match=third.id):
            running.unwrap(TENANT, unknown)
    assert looks <= 4
    # What is taken out stays for this process; what makes no sense changes nothing, and is not quoted.
    now += 1
    write_master_keys(file, [fresh])
    assert running.look() == (fresh.id, first.id)
    now += 1
    file.write_text(f"{third.line()[:-3]}xyz")
    with caplog.at_level(logging.ERROR):
        assert running.look() == (fresh.id, first.id)
    assert "cannot be used" in caplog.text
    assert third.line().split()[2][:8] not in caplog.text
