"""Counts of long runs add up, whatever interrupts them."""

from __future__ import annotations

from pathlib import Path

from tests.siege.campaign import Campaign, Ledger


def test_a_soak_goes_on_after_the_last_seed_that_was_finished(tmp_path: Path) -> None:
    ledger, now = Ledger(tmp_path / "soak" / "ledger.jsonl"), [0.0]
    first = Campaign(10.0, ledger, lambda: now[0])
    begun = []
    for seed in first.seeds("kills", quick=1):
        begun.append(seed)
        if len(begun) == 3:
            break  # interrupted in the third
        first.done("kills", seed, acknowledged=10)
    assert begun == [0, 1, 2]
    with (tmp_path / "soak" / "ledger.jsonl").open("a") as file:
        file.write('{"campaign": "kills", "seed"')  # torn
    second = Campaign(10.0, Ledger(tmp_path / "soak" / "ledger.jsonl"), lambda: now[0])
    seed = next(second.seeds("kills", quick=1))
    assert seed == 2
    assert second.done("other", 0, acknowledged=1)["acknowledged"] == 1


def test_a_soak_ends_when_its_time_is_over(tmp_path: Path) -> None:
    now = [0.0]
    campaign = Campaign(10.0, Ledger(tmp_path / "ledger.jsonl"), lambda: now[0])
    seen = 0
    for seed in campaign.seeds("cuts", quick=1):
        seen += 1
        now[0] += 4.0
        total = campaign.done("cuts", seed, cuts=2)
    assert (seen, total["cuts"]) == (3, 6)


def test_a_quick_run_keeps_no_ledger(tmp_path: Path) -> None:
    campaign = Campaign(0.0, Ledger(tmp_path / "ledger.jsonl"))
    assert list(campaign.seeds("cuts", quick=2)) == [0, 1]
    assert campaign.done("cuts", 0, cuts=5) == {"cuts": 5}
    assert not (tmp_path / "ledger.jsonl").exists()
