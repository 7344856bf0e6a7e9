"""The Grafana dashboard of `monitoring/`, built with Grafana's own SDK so that its JSON is what Grafana reads.

`make docs` writes it. Two halves: is all well, and if not, why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HERE = 'job="$job", instance=~"$instance"'

Query = tuple[str, str]
"""An expression and the legend of its series."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A panel: `worst` is the value from which on it is red, None where no value is bad by itself."""

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    worst: float | None = None
    warning: float | None = None


def _of(metric: str, more: str = "") -> str:
    return f"keycloak_bridge_{metric}{{{_HERE}{more and f', {more}'}}}"


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({_of(metric, more)}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({_of(f'{metric}_bucket')}[$__rate_interval])))"


def _grown(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (increase({_of(metric, more)}[$__rate_interval]))"


def _counted(metric: str, within: str) -> str:
    """Return the growth of counters whose series begin with their first count, of which `increase` sees nothing; one for each series."""
    series = _of(metric)
    return f"(max_over_time({series}[{within}]) unless {series} offset {within}) or increase({series}[{within}])"


_STATE = (
    Figure(
        "Bridges",
        "How many bridges Prometheus can scrape. None: KeycloakBridgeAbsent or KeycloakBridgeDown.",
        "none",
        [('count(up{job="$job"} == 1) or vector(0)', "")],
    ),
    Figure(
        "Not ready",
        "Bridges whose /ready answers 503; the table of problems says why.",
        "none",
        [(f"count({_of('ready')} == 0) or vector(0)", "")],
        worst=1,
    ),
    Figure(
        "Brake",
        "Stages that the brake holds until an operator releases it (KeycloakBridgeBrakeEngaged).",
        "none",
        [(f"sum({_of('brake_engaged')})", "")],
        worst=1,
    ),
    Figure(
        "Records that wait",
        "Records of all partitions that are not committed, in both stages.",
        "short",
        [(f"sum({_of('lag_records')})", "")],
        warning=1000,
        worst=10_000,
    ),
    Figure(
        "Oldest unfinished",
        "How long the slowest partition has waited for its first unfinished record (KeycloakBridgeRecordWaits).",
        "s",
        [(f"max({_of('oldest_unfinished_seconds')})", "")],
        warning=60,
        worst=300,
    ),
    Figure(
        "Users late by",
        "95th percentile from an event's time to the written user, of the last hour (KeycloakBridgeUsersLate).",
        "s",
        [
            (
                "histogram_quantile(0.95, sum by (le) (rate("
                + _of("end_to_end_latency_seconds_bucket", 'stage="provision"')
                + "[1h])))",
                "",
            )
        ],
        warning=60,
        worst=300,
    ),
    Figure(
        "Dead letters today",
        "Records that were refused in the last 24 hours, in both stages (KeycloakBridgeDeadLetters).",
        "short",
        [(f"sum({_counted('dead_letters_total', '24h')}) or vector(0)", "")],
        warning=1,
    ),
    Figure(
        "Mails today",
        "Mails that Keycloak sent for the bridge in the last 24 hours.",
        "short",
        [(f"sum(increase({_of('mails_total')}[24h]))", "")],
    ),
)

_FLOW = (
    Figure(
        "Records",
        "Finished records a second, by stage and outcome.",
        "ops",
        [(_rate("records_total", "stage, outcome"), "{{stage}} {{outcome}}")],
    ),
    Figure(
        "Wait of people",
        "From an event's time until the user was written (provision) and its mail was sent (invite): median and 95th percentile. Backfilled "
        "events are not in it.",
        "s",
        [
            (_quantile(0.5, "end_to_end_latency_seconds", "stage"), "{{stage}} median"),
            (_quantile(0.95, "end_to_end_latency_seconds", "stage"), "{{stage}} 95 %"),
        ],
        worst=300,
    ),
    Figure(
        "Lag",
        "Records that are not committed, by stage (KeycloakBridgeLagGrows, KeycloakBridgeStalled).",
        "short",
        [(f"sum by (stage) ({_of('lag_records')})", "{{stage}}")],
    ),
    Figure(
        "Mails",
        "Mails a second, and invitations that got none, by the reason.",
        "ops",
        [
            (f"sum(rate({_of('mails_total')}[$__rate_interval]))", "sent"),
            (_rate("records_total", "reason", 'stage="invite", outcome="skipped"'), "{{reason}}"),
        ],
    ),
    Figure(
        "Open invitations",
        "Invitations whose person has not set a password yet, and whose link has not ended; none from a bridge that no longer watches "
        "(KeycloakBridgeActivationOff).",
        "short",
        [(f"sum({_of('open_invitations')})", "open")],
    ),
    Figure(
        "Limits",
        "How much of each limit is used within its window; at 100 % the brake engages (KeycloakBridgeLimitNear).",
        "percentunit",
        [
            (
                f"max by (limit) ({_of('limited_changes')} / {_of('limited_changes_max')})",
                "{{limit}}",
            )
        ],
        worst=0.8,
    ),
    Figure(
        "Batches",
        "Users a second that were written in batches, and batches that Keycloak failed.",
        "ops",
        [
            (f"sum(rate({_of('batched_users_total')}[$__rate_interval]))", "users in batches"),
            (_rate("batches_total", "outcome", 'outcome="failed"'), "failed batches"),
        ],
    ),
)

_WHY = (
    Figure(
        "Dead letters",
        "By code; docs/operating.md has the meaning of each (KeycloakBridgeDeadLetters, KeycloakBridgeMailsGivenUp).",
        "short",
        [
            (
                f"sum by (stage, code) ({_counted('dead_letters_total', '$__rate_interval')})",
                "{{stage}} {{code}}",
            )
        ],
    ),
    Figure(
        "Retries",
        "Failed attempts that are made again, by code: what is not there, or refuses.",
        "short",
        [(_grown("retries_total", "stage, code"), "{{stage}} {{code}}")],
    ),
    Figure(
        "Breaker",
        "1 while everything fails and the stage waits, 0.5 while one record probes (KeycloakBridgeKeycloakFails).",
        "none",
        [(_of("breaker_open"), "{{instance}} {{stage}}")],
        worst=0.5,
    ),
    Figure(
        "Look-ups of Keycloak",
        "95th percentile of a look-up, by what is searched; by attribute alone: an index is missing (KeycloakBridgeLookupsSlow).",
        "s",
        [(_quantile(0.95, "lookup_seconds", "kind"), "{{kind}}")],
        worst=0.2,
    ),
    Figure(
        "Time of a record",
        "From its first attempt to its end: median and 95th percentile.",
        "s",
        [
            (_quantile(0.5, "record_seconds", "stage"), "{{stage}} median"),
            (_quantile(0.95, "record_seconds", "stage"), "{{stage}} 95 %"),
        ],
    ),
    Figure(
        "In hand",
        "Records in memory: worked on, and waiting for an earlier one or for their next attempt.",
        "short",
        [
            (_of("running_records"), "{{instance}} {{stage}} running"),
            (_of("waiting_records"), "{{instance}} {{stage}} waiting"),
        ],
    ),
    Figure(
        "Bytes in hand",
        "Bytes of the records in memory; fetching pauses at delivery.max_bytes (KeycloakBridgeFetchingPaused).",
        "bytes",
        [(_of("in_hand_bytes"), "{{instance}} {{stage}}")],
    ),
    Figure(
        "Lag by partition",
        "One partition alone: its record waits, or its key is busy.",
        "short",
        [(_of("lag_records"), "{{stage}} {{partition}}")],
    ),
    Figure(
        "Commits",
        "Commits a second that advanced a partition; none although records wait: KeycloakBridgeStalled.",
        "ops",
        [(_rate("commits_total", "stage"), "{{stage}}")],
    ),
    Figure(
        "Since the last commit",
        "Seconds since a commit advanced a partition; without new records it grows.",
        "s",
        [(f"time() - {_of('last_commit_timestamp_seconds')}", "{{instance}} {{stage}}")],
    ),
    Figure(
        "Lost, reset, overruled",
        "Offsets that Kafka deleted unread, topics read anew, disables without effect (KeycloakBridgeRecordsLost, "
        "KeycloakBridgePositionReset, KeycloakBridgeEventsOverruled).",
        "short",
        [
            (_grown("lost_records_total", "stage"), "{{stage}} lost"),
            (_grown("position_resets_total", "stage"), "{{stage}} reset"),
            (f"sum(increase({_of('overruled_events_total')}[$__rate_interval]))", "overruled"),
        ],
        worst=1,
    ),
    Figure(
        "CPU",
        "Cores that each process uses.",
        "none",
        [(f"rate(process_cpu_seconds_total{{{_HERE}}}[$__rate_interval])", "{{instance}}")],
    ),
    Figure(
        "Memory",
        "Resident memory of each process.",
        "bytes",
        [(f"process_resident_memory_bytes{{{_HERE}}}", "{{instance}}")],
    ),
    Figure(
        "Starts",
        "How often each process was started within the interval (KeycloakBridgeRestarting).",
        "short",
        [(f"changes(process_start_time_seconds{{{_HERE}}}[$__rate_interval])", "{{instance}}")],
        worst=1,
    ),
)


def grafana_dashboard() -> str:
    """Return the dashboard as JSON."""
    board = (
        builders.Dashboard("keycloak-bridge")
        .uid("keycloak-bridge")
        .description(
            "Users and mails on their way from Kafka to Keycloak: the state, the flow, and what to look at when something is wrong."
        )
        .tags(["keycloak", "kafka"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            builders.QueryVariable("job")
            .label("Job")
            .datasource(_SOURCE)
            .query("label_values(keycloak_bridge_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
        .with_variable(
            builders.QueryVariable("instance")
            .label("Bridge")
            .datasource(_SOURCE)
            .query('label_values(keycloak_bridge_build_info{job="$job"}, instance)')
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    number = count(1)
    board.with_row(builders.Row("Is all well?").id(next(number)))
    for figure in _STATE:
        board.with_panel(_number(figure).id(next(number)).span(3).height(4))
    board.with_panel(_problems().id(next(number)).span(24).height(6))
    for title, figures in (("The flow", _FLOW), ("Trouble-shooting", _WHY)):
        board.with_row(builders.Row(title).id(next(number)))
        for figure in figures:
            board.with_panel(_curve(figure).id(next(number)).span(8).height(8))
    return JSONEncoder(sort_keys=True, indent=1).encode(board.build()) + "\n"


def _number(figure: Figure) -> stat.Panel:
    panel = (
        stat.Panel()
        .title(figure.title)
        .description(figure.description)
        .datasource(_SOURCE)
        .unit(figure.unit)
        .thresholds(_thresholds(figure))
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.AREA)
        .no_value("no data")
    )
    for target in _targets(figure):
        panel.with_target(target)
    return panel


def _curve(figure: Figure) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(figure.title)
        .description(figure.description)
        .datasource(_SOURCE)
        .unit(figure.unit)
        .min(0)
        .thresholds(_thresholds(figure))
        .fill_opacity(10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if figure.worst is not None:
        style = GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    for target in _targets(figure):
        panel.with_target(target)
    return panel


def _problems() -> tables.Panel:
    query = (
        prometheus.Dataquery()
        .expr(_of("problem"))
        .ref_id("A")
        .instant()
        .format(PromQueryFormat.TABLE)
        .datasource(_SOURCE)
    )
    return (
        tables.Panel()
        .title("Problems now")
        .description(
            "What /ready names, by stage and code; empty while all is well. Each code is in docs/runbooks.md."
        )
        .datasource(_SOURCE)
        .unit("none")
        .with_target(query)
    )


def _targets(figure: Figure) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery()
        .expr(expression)
        .legend_format(legend or figure.title)
        .ref_id(chr(ord("A") + number))
        .range()
        .datasource(_SOURCE)
        for number, (expression, legend) in enumerate(figure.queries)
    ]


def _thresholds(figure: Figure) -> builders.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if figure.warning is not None:
        steps.append(Threshold(value=figure.warning, color="orange"))
    if figure.worst is not None:
        steps.append(Threshold(value=figure.worst, color="red"))
    return builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
