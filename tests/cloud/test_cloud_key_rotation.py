"""Turning the signing keys in the emulated secret store: once, by one, and nobody is signed out."""

from __future__ import annotations

import json
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from fusiontrade.accounts.admission.key_rotation import FEWEST_SECONDS, Rotation, rotate
from fusiontrade.accounts.admission.tokens import SigningKeys, Tokens
from fusiontrade.accounts.identity import Identity
from fusiontrade.cloud.secrets import CACHE_SECONDS, Secrets
from fusiontrade.cloud.session import client
from fusiontrade.errors import Conflict, StateUnavailable

START = 1_750_000_000_000
MONTH = 30 * 86_400_000
ADA = Identity("a1", "ada@example.com", "pro", "s1", True)


def turn(arn: str, now: int) -> Rotation:
    return rotate(Secrets(), arn, lambda: now)


def versions(arn: str) -> int:
    return len(client("secretsmanager").list_secret_version_ids(SecretId=arn, IncludeDeprecated=True)["Versions"])


def test_the_first_turn_publishes_a_key_and_the_second_lets_it_sign(signing_keys_arn: str) -> None:
    before = SigningKeys.from_json(Secrets().read(signing_keys_arn))
    first = turn(signing_keys_arn, START)
    assert (first.changed, first.current) == (True, before.current)
    published = [key["kid"] for key in SigningKeys.from_json(Secrets().read(signing_keys_arn)).public()["keys"]]
    assert published == [before.current, first.next]
    second = turn(signing_keys_arn, START + MONTH)
    assert second.current == first.next
    assert second.next not in published


def test_a_schedule_that_fires_twice_turns_once(signing_keys_arn: str) -> None:
    turn(signing_keys_arn, START)
    text, known = Secrets().read(signing_keys_arn), versions(signing_keys_arn)
    for later in (0, 1000, FEWEST_SECONDS * 1000 - 1):
        assert turn(signing_keys_arn, START + later).changed is False
    assert (Secrets().read(signing_keys_arn), versions(signing_keys_arn)) == (text, known)


def test_eight_turns_at_once_are_one_turn(signing_keys_arn: str) -> None:
    turn(signing_keys_arn, START)
    together = threading.Barrier(8)

    def fire(_: int) -> Rotation:
        together.wait()
        return turn(signing_keys_arn, START + MONTH)

    with ThreadPoolExecutor(8) as pool:
        rotations = list(pool.map(fire, range(8)))
    assert sum(one.changed for one in rotations) == 1
    assert len({(one.current, one.next) for one in rotations}) == 1


def _turn_in_a_process(arn: str, results: multiprocessing.Queue[bool]) -> None:
    results.put(turn(arn, START).changed)


def test_two_processes_that_turn_at_once_turn_once(signing_keys_arn: str) -> None:
    spawning = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bool] = spawning.Queue()
    workers = [spawning.Process(target=_turn_in_a_process, args=(signing_keys_arn, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    changed = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=20)
    assert sorted(changed) == [False, True]


def test_over_a_year_every_token_verifies_in_every_process_for_its_whole_life(signing_keys_arn: str) -> None:
    """Two processes that cache keys for five minutes, one always the longest possible behind the other."""
    caches = {"fresh": "", "stale": ""}
    now = START

    def tokens(process: str) -> Tokens:
        keys = SigningKeys.from_json(caches[process])
        return Tokens(lambda: keys, issuer="i", audience="a", seconds=3600, clock=lambda: now)

    signed_by = set()
    for _ in range(12):
        caches["stale"] = Secrets().read(signing_keys_arn)
        turn(signing_keys_arn, now)
        caches["fresh"] = Secrets().read(signing_keys_arn)
        for signer, verifier in (("fresh", "stale"), ("stale", "fresh")):
            text = tokens(signer).issue(ADA).text
            assert tokens(verifier).verify(text) == ADA
        now += int(CACHE_SECONDS) * 1000
        late = tokens("stale").issue(ADA).text  # the last thing a stale process signs
        caches["stale"] = caches["fresh"]
        now += 3599 * 1000
        assert tokens("fresh").verify(late) == ADA
        signed_by.add(SigningKeys.from_json(caches["fresh"]).current)
        now += MONTH
    assert len(signed_by) == 12
    assert len(SigningKeys.from_json(Secrets().read(signing_keys_arn)).keys) == 3


def test_a_key_signs_only_after_it_was_published_and_is_gone_once_its_tokens_are_dead(signing_keys_arn: str) -> None:
    history = []
    for month in range(6):
        turn(signing_keys_arn, START + month * MONTH)
        history.append(json.loads(Secrets().read(signing_keys_arn)))
    for earlier, later in pairwise(history):
        assert later["current"] == earlier["next"]
        assert later["current"] in {key["kid"] for key in earlier["keys"]}
        assert earlier["current"] in {key["kid"] for key in later["keys"]}
    assert history[0]["current"] not in {key["kid"] for key in history[3]["keys"]}


def test_of_two_writers_of_one_secret_one_wins_and_the_other_is_told(signing_keys_arn: str) -> None:
    secrets = Secrets()
    read = secrets.current(signing_keys_arn)
    secrets.replace(signing_keys_arn, "first", version=read.version)
    with pytest.raises(Conflict):
        secrets.replace(signing_keys_arn, "second", version=read.version)
    assert Secrets().read(signing_keys_arn) == "first"
    assert secrets.read(signing_keys_arn) == "first"


def test_a_secret_is_not_shown_by_its_value(signing_keys_arn: str) -> None:
    assert "keys" not in repr(Secrets().current(signing_keys_arn))


@pytest.mark.parametrize("text", ["not keys", "[]", '{"current": "k", "keys": []}'])
def test_what_is_no_set_of_keys_is_left_alone(aws: None, text: str) -> None:
    arn = client("secretsmanager").create_secret(Name=f"broken-{hash(text)}", SecretString=text)["ARN"]
    with pytest.raises(StateUnavailable):
        turn(arn, START)
    assert Secrets().read(arn) == text
