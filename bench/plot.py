"""Draws the results of `make bench`: `make bench-plot` passes a JSON file of each group.

One chart shows the ratio of each figure to its target, the other the spread of the times. Both
scales are logarithmic, since the figures have very different sizes.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 - the backend has to be chosen before

_COLOURS = {"ok": "tab:green", "MISS": "tab:red"}
_ROW_INCHES = 0.34


def _closeness(row: dict) -> float | None:
    """Return the ratio of a figure to its target, or the reverse, so that at most 1 is ok."""
    kind, limit = row["limit_kind"], row["limit"]
    if kind is None:
        return None
    figure = row["ratio"] if kind in ("ratio", "least_ratio") else row["value"]
    if kind in ("most", "ratio"):
        # A target of 0 has no ratio, nor has a difference that noise has made negative.
        return figure / limit if limit and figure > 0 else None
    return limit / figure if figure else None


def _label(row: dict) -> str:
    """Return the name of a row; for a ratio also that of the floor, which is its denominator."""
    floor = f" / {row['floor']}" if row["limit_kind"] in ("ratio", "least_ratio") else ""
    return row["name"].strip() + floor


def _plot_targets(axes: pyplot.Axes, rows: list[dict]) -> None:
    """Draw one bar for each row that has a target."""
    bars = [(row, part) for row in rows if (part := _closeness(row)) is not None]
    axes.barh(range(len(bars)), [part for _, part in bars],
              color=[_COLOURS[row["verdict"]] for row, _ in bars])
    axes.set_yticks(range(len(bars)), [_label(row) for row, _ in bars])
    for position, (row, part) in enumerate(bars):
        axes.annotate(f" {part:.2f} ({row['target']})", (part, position), va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.3)
    axes.invert_yaxis()
    axes.set_xlabel("part of the target; left of the line is ok")


def _plot_spread(axes: pyplot.Axes, rows: list[dict]) -> None:
    """Draw each distribution once, from its median to its maximum."""
    spreads: dict[tuple, dict] = {}
    for row in rows:
        if row["max"] is not None and row["p50"] > 0:
            # Several rows may have targets for the same times.
            spreads.setdefault((row["unit"], row["p50"], row["max"]), row)
    labels = [f"{row['name'].strip()} [{row['unit']}]" for row in spreads.values()]
    for position, row in enumerate(spreads.values()):
        axes.plot([row["p50"], row["max"]], [position, position], color="lightgray", zorder=1)
        for key, mark, colour in (("p50", "o", "tab:blue"), ("p99", "|", "tab:orange"),
                                  ("max", "x", "tab:red")):
            axes.scatter(row[key], position, marker=mark, color=colour, zorder=2,
                         label=key if position == 0 else None)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xscale("log")
    axes.invert_yaxis()
    if labels:
        axes.legend(fontsize=7)
    axes.set_xlabel("in the unit of the row")


def _plot(file: Path) -> None:
    """Write the charts of one group beside its file."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    machine = rows[0]["machine"]
    height = 2 + _ROW_INCHES * len(rows)
    figure, (targets, spread) = pyplot.subplots(1, 2, figsize=(18, height), layout="constrained")
    _plot_targets(targets, rows)
    _plot_spread(spread, rows)
    figure.suptitle(f"{rows[0]['group']}: {machine['cpu']}, {machine['cores']} cores, "
                    f"OTP {machine['otp']}, Python {machine['python']} ({machine['abi']}), "
                    f"{rows[0]['date']}")
    for axes in (targets, spread):
        axes.tick_params(axis="y", labelsize=8)
    for suffix in (".svg", ".png"):
        figure.savefig(file.with_suffix(suffix), dpi=110)
    pyplot.close(figure)
    print(file.with_suffix(".svg"))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        _plot(Path(argument))
