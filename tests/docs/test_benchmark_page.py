from bench import publish
from bench.plot import plot
from bench.table import table

README = publish.README.read_text(encoding="utf-8")
RESULTS = publish.recorded()
PAGE = (publish.RECORDED / "table.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_recorded_table() -> None:
    """Its part is docs/benchmark/table.md and the plot, as `make bench` writes them."""
    assert README == publish.renewed(README, PAGE)


def test_table_and_plot_are_of_the_recorded_figures() -> None:
    """Both follow from docs/benchmark/results.json."""
    panels = {f"Keycloak on {name}": one["runs"] for name, one in RESULTS["databases"].items()}
    picture = (publish.RECORDED / "users-over-time.svg").read_text(encoding="utf-8")

    assert PAGE == table(RESULTS)
    assert picture == plot(panels)


def test_the_record_holds_no_failed_run() -> None:
    """What failed is never recorded."""
    runs = [run for one in RESULTS["databases"].values() for run in one["runs"]]

    assert [] == [run for run in runs if run["problem"]]
    assert runs
