"""The documents port against the emulated DynamoDB."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import Check, Condition, ConditionFailed, Delete, Put, Table, Update, transact
from fusiontrade.errors import Conflict, StateUnavailable
from tests.support.round_trips import round_trips

KEY = {"pk": "USER#1", "sk": "PROFILE"}
NEW = Condition("attribute_not_exists(pk)")


def test_an_item_comes_back_as_it_was_put(accounts_table: Table) -> None:
    item = {
        **KEY, "name": "Ångström", "whole": 7, "price": Decimal("1.1350"), "share": 0.1, "yes": True, "none": None,
        "blob": b"\x00\xff", "list": [1, "two", {"three": Decimal("3.5")}], "tags": frozenset({"a", "b"}),
    }  # fmt: skip
    accounts_table.put(item)
    assert accounts_table.get(KEY) == {**item, "share": Decimal("0.1")}


def test_a_float_is_stored_as_the_decimal_text_that_python_shows(accounts_table_name: str) -> None:
    Table(accounts_table_name).put({**KEY, "price": 1.1})
    stored = client("dynamodb").get_item(TableName=accounts_table_name, Key={k: {"S": v} for k, v in KEY.items()})
    assert stored["Item"]["price"] == {"N": "1.1"}


def test_an_absent_item_is_none(accounts_table: Table) -> None:
    assert accounts_table.get(KEY) is None


def test_a_put_whose_condition_fails_tells_what_stands_there(accounts_table: Table) -> None:
    accounts_table.put({**KEY, "n": 1})
    with pytest.raises(ConditionFailed) as refused:
        accounts_table.put({**KEY, "n": 2}, condition=NEW)
    assert refused.value.item == {**KEY, "n": 1}
    assert accounts_table.get(KEY) == {**KEY, "n": 1}


def test_an_update_sets_adds_removes_and_returns_the_new_item(accounts_table: Table) -> None:
    accounts_table.put({**KEY, "n": 1, "old": "x", "name": "a"})
    changed = accounts_table.update(Update(KEY, assign={"name": "b"}, add={"n": 2}, remove=["old"]))
    assert changed == {**KEY, "n": 3, "name": "b"}


def test_an_update_of_an_absent_item_makes_it(accounts_table: Table) -> None:
    assert accounts_table.update(Update(KEY, add={"n": 1})) == {**KEY, "n": 1}


def test_an_update_whose_condition_fails_on_an_absent_item_says_there_was_none(accounts_table: Table) -> None:
    with pytest.raises(ConditionFailed) as refused:
        accounts_table.update(Update(KEY, add={"n": 1}, condition=Condition("attribute_exists(#n)")))
    assert refused.value.item is None
    assert accounts_table.get(KEY) is None


def test_fifty_parallel_counts_lose_none(accounts_table: Table) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: accounts_table.update(Update(KEY, add={"n": 1})), range(50)))
    assert accounts_table.get(KEY) == {**KEY, "n": 50}


def test_a_deleted_item_is_gone_and_deleting_it_again_is_no_error(accounts_table: Table) -> None:
    accounts_table.put(dict(KEY))
    accounts_table.delete(KEY)
    accounts_table.delete(KEY)
    assert accounts_table.get(KEY) is None


def test_a_transaction_with_one_failed_condition_leaves_nothing_and_names_the_write(accounts_table: Table) -> None:
    other = {"pk": "USER#2", "sk": "PROFILE"}
    accounts_table.put({**other, "n": 1})
    with pytest.raises(ConditionFailed) as refused:
        accounts_table.transact(Put({**KEY, "n": 1}, NEW), Put({**other, "n": 2}, NEW))
    assert refused.value.index == 1
    assert accounts_table.get(KEY) is None
    assert accounts_table.get(other) == {**other, "n": 1}


def test_a_transaction_does_every_kind_of_write(accounts_table: Table) -> None:
    keys = [{"pk": f"USER#{n}", "sk": "PROFILE"} for n in range(4)]
    for key in keys[1:]:
        accounts_table.put({**key, "n": 1})
    accounts_table.transact(
        Put({**keys[0], "n": 9}),
        Update(keys[1], add={"n": 4}),
        Delete(keys[2]),
        Check(keys[3], Condition("#n = :one", {"one": 1})),
    )
    assert [(item or {}).get("n") for item in map(accounts_table.get, keys)] == [9, 5, None, 1]


def test_a_transaction_sent_twice_with_one_token_happens_once(accounts_table: Table) -> None:
    for _ in range(2):
        accounts_table.transact(Update(KEY, add={"n": 1}), token="the-same-token-of-a-retry")
    assert accounts_table.get(KEY) == {**KEY, "n": 1}


def test_a_transaction_over_two_tables_happens_in_both_or_in_none(
    accounts_table: Table, models_table_name: str
) -> None:
    models = Table(models_table_name)
    both = [accounts_table.placed(Put({**KEY, "n": 1}, NEW)), models.placed(Put({**KEY, "n": 2}, NEW))]
    with round_trips() as sent:
        transact(*both)
    assert sent == ["TransactWriteItems"]
    assert [table.get(KEY) for table in (accounts_table, models)] == [{**KEY, "n": 1}, {**KEY, "n": 2}]
    accounts_table.delete(KEY)
    with pytest.raises(ConditionFailed) as refused:
        accounts_table.transact(Put({**KEY, "n": 3}, NEW), models.placed(Put({**KEY, "n": 4}, NEW)))
    assert (refused.value.indexes, refused.value.item) == ((1,), {**KEY, "n": 2})
    assert accounts_table.get(KEY) is None


def test_a_transaction_names_every_write_whose_condition_failed(accounts_table: Table) -> None:
    keys = [{"pk": f"USER#{n}", "sk": "PROFILE"} for n in range(4)]
    for taken in (keys[1], keys[3]):
        accounts_table.put({**taken, "n": 7})
    with pytest.raises(ConditionFailed) as refused:
        accounts_table.transact(*[Put(dict(key), NEW) for key in keys])
    assert (refused.value.index, refused.value.indexes) == (1, (1, 3))


def test_of_parallel_transactions_on_one_item_one_wins_and_the_others_are_told(accounts_table: Table) -> None:
    def take(number: int) -> bool:
        try:
            accounts_table.transact(Put({**KEY, "by": number}, NEW), Put({"pk": f"LOG#{number}", "sk": "LOG"}, NEW))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(16)))
    assert sum(taken) == 1
    logged = [item["pk"] for item in accounts_table.scan().items if item["sk"] == "LOG"]
    assert logged == [f"LOG#{taken.index(True)}"]


def test_an_update_adds_to_sets_and_decimals(accounts_table: Table) -> None:
    accounts_table.update(Update(KEY, add={"done": frozenset({"a"}), "pips": Decimal("1.5")}))
    changed = accounts_table.update(Update(KEY, add={"done": frozenset({"a", "b"}), "pips": Decimal("-0.3")}))
    assert (changed["done"], changed["pips"]) == (frozenset({"a", "b"}), Decimal("1.2"))


def test_a_query_leaves_out_what_the_filter_does_not_fit_and_names_what_is_wanted(accounts_table: Table) -> None:
    for n in range(6):
        accounts_table.put({"pk": "USER#1", "sk": f"S#{n}", "n": n, "more": "x"})
    mine = Condition("pk = :pk", {"pk": "USER#1"})
    page = accounts_table.query(mine, limit=4, filter=Condition("#n >= :least", {"least": 2}), names=["n"])
    assert page.items == [{"n": 2}, {"n": 3}]
    assert page.next_key == {"pk": "USER#1", "sk": "S#3"}


def test_a_scan_gives_every_item_that_fits(accounts_table: Table) -> None:
    for n in range(6):
        accounts_table.put({"pk": f"USER#{n}", "sk": "S", "n": n})
    found = accounts_table.scan(condition=Condition("#n < :most", {"most": 3}), names=["pk"])
    assert sorted(item["pk"] for item in found.items) == ["USER#0", "USER#1", "USER#2"]
    assert found.next_key is None


@pytest.mark.parametrize("count", [0, 101])
def test_a_transaction_of_an_impossible_size_is_refused_before_it_is_sent(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 100 writes"):
        Table("nowhere").transact(*[Delete(KEY)] * count)


def test_a_query_pages_in_key_order_both_ways(accounts_table: Table) -> None:
    for n in range(5):
        accounts_table.put({"pk": "USER#1", "sk": f"S#{n}", "n": n})
    mine = Condition("pk = :pk", {"pk": "USER#1"})
    first = accounts_table.query(mine, limit=3)
    rest = accounts_table.query(mine, limit=3, start=first.next_key)
    assert [item["n"] for item in first.items + rest.items] == [0, 1, 2, 3, 4]
    assert rest.next_key is None
    assert [item["n"] for item in accounts_table.query(mine, limit=2, newest_first=True).items] == [4, 3]


def test_a_table_that_is_not_there_is_unavailable_and_not_empty(aws: None) -> None:
    with pytest.raises(StateUnavailable, match="ResourceNotFoundException"):
        Table("no-such-table").get(KEY)
