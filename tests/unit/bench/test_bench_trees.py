"""The comparison of two source trees: its table has the ratios of pairs, not of medians."""

from bench.trees import Cost, table


def test_ratios_are_of_runs_that_followed_each_other() -> None:
    pairs = [(Cost(0.4, 90.0), Cost(0.8, 100.0)), (Cost(0.9, 92.0), Cost(0.9, 104.0))]

    row = table({"batches": pairs}).splitlines()[-1]

    assert (
        "| batches | 0.65 ms (0.40 to 0.90) | 0.85 ms (0.80 to 0.90) | 0.75 (0.50 to 1.00) "
        "| 91 MB (90 to 92) | 102 MB (100 to 104) |" == row
    )
