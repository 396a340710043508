"""Figures of a row to a line of the table."""
import statistics

NOISE_LIMIT = 0.03     # a bar is not called missed while the A/A row of its kind is off by more than this


class Report:
    def __init__(self, new_bars):
        self.new_bars = new_bars
        self.medians = {}
        self.missed = 0

    @staticmethod
    def header():
        return "%-28s %9s %9s %9s %9s  %-10s %-8s %s" % (
            "row", "median", "min", "max", "best/best", "bar", "verdict", "what, and the median of both sides")

    def verdict(self, row, median):
        if row.bar is None:
            return "-", "info"
        bar = row.bar[1 if self.new_bars else 0]
        sign = "<=" if row.better == "less" else ">="
        good = median <= bar if row.better == "less" else median >= bar
        if good:
            return "%s %g" % (sign, bar), "ok"
        noise = self.medians.get(row.noise)
        if noise is not None and row.noise.endswith("noise") | row.noise.startswith("noise") and abs(noise - 1) > NOISE_LIMIT:
            return "%s %g" % (sign, bar), "noisy"
        self.missed += 1
        return "%s %g" % (sign, bar), "MISSED"

    def line(self, row, pairs, combine, sides):
        """combine(a, b) makes the figure of a pair; sides(a, b) describes two costs."""
        figures = [combine(a, b) for a, b in pairs]
        median = statistics.median(figures)
        best = combine(min(a for a, _ in pairs), min(b for _, b in pairs))
        self.medians[row.name] = median
        bar, verdict = self.verdict(row, median)
        both = sides(statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))
        return "%-28s %9.3f %9.3f %9.3f %9.3f  %-10s %-8s %s [%s]" % (
            row.name, median, min(figures), max(figures), best, bar, verdict,
            row.text + (", " + row.unit if row.unit else ""), both)
