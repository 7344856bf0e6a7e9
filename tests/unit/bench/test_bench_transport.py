"""The command that compares transports."""

from bench.transport import BEGIN, END, PAGE, table


def test_the_table_compares_with_the_bridge_and_names_who_never_times_out() -> None:
    """Medians and ranges; the last one is the bridge's."""
    found = {"plain": [300.0, 320.0, 280.0], "ours": [60.0, 61.0, 59.0]}
    about = {"cores": 2, "cpu": "any", "python": "3"}
    rows = table(found, {"plain": False, "ours": True}, about).splitlines()

    assert "| plain | 300 µs (280 to 320) | 5.0 | **never times out** |" == rows[2]
    assert "| ours | 60 µs (59 to 61) | 1.0 | ends at the deadline |" == rows[3]
    assert "medians of 3 interleaved rounds" in rows[-1]


def test_the_page_has_a_place_for_it() -> None:
    """Or `--write` would fail after it has measured."""
    text = PAGE.read_text(encoding="utf-8")

    assert text.index(BEGIN) < text.index(END)
