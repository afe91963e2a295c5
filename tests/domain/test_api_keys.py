"""Keys as they are made and known again."""

from gateway.domain.api_keys import hash_of, hint_of, looks_right, new_key


def test_a_fresh_key_looks_right_and_a_mistyped_one_does_not() -> None:
    key = new_key().reveal()
    assert looks_right(key)
    assert len(key) == len("gw_live_") + 58
    for place in range(len(key)):
        wrong = key[:place] + ("a" if key[place] != "a" else "b") + key[place + 1 :]
        assert not looks_right(wrong)
    assert not looks_right(key + "\n")
    assert key != new_key().reveal()


def test_what_is_kept_does_not_tell_the_key() -> None:
    key = new_key().reveal()
    assert hint_of(key) == key[:16]
    assert key.encode() not in hash_of(key)
