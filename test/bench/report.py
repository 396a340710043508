"""Figures of a row to a line of the table."""
import statistics

NOISE_LIMIT = 0.03     # of the median of an A/A row; beyond it a narrow miss says nothing


class Report:
    def __init__(self, new_bars):
        self.new_bars = new_bars
        self.figures = {}
        self.missed = 0

    @staticmethod
    def header():
        return "%-28s %9s %9s %9s %9s  %-10s %-8s %s" % (
            "row", "median", "min", "max", "best/best", "bar", "verdict", "what, and the median of both sides")

    def is_noise(self, row, bar, median):
        """Is the miss smaller than what the row's A/A row shows without any difference at all?"""
        noise = self.figures.get(row.noise)
        if noise is None:
            return False
        if row.noise == "threads-raw":        # not an A/A row, but what this machine can do now
            return statistics.median(noise) < bar
        if row.unit:
            return median - bar <= max(map(abs, noise))
        spread = max(max(noise), 1 / min(noise))
        miss = median / bar if row.better == "less" else bar / median
        return abs(statistics.median(noise) - 1) > NOISE_LIMIT and miss <= spread

    def verdict(self, row, median):
        if row.bar is None:
            return "-", "info"
        bar = row.bar[1 if self.new_bars else 0]
        text = "%s %g" % ("<=" if row.better == "less" else ">=", bar)
        if median <= bar if row.better == "less" else median >= bar:
            return text, "ok"
        if self.is_noise(row, bar, median):
            return text, "noisy"
        self.missed += 1
        return text, "MISSED"

    def line(self, row, pairs, combine, sides):
        """combine(a, b) makes the figure of a pair; sides(a, b) describes two costs."""
        figures = self.figures[row.name] = [combine(a, b) for a, b in pairs]
        median = statistics.median(figures)
        best = combine(min(a for a, _ in pairs), min(b for _, b in pairs))
        bar, verdict = self.verdict(row, median)
        both = sides(statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs))
        return "%-28s %9.3f %9.3f %9.3f %9.3f  %-10s %-8s %s [%s]" % (
            row.name, median, min(figures), max(figures), best, bar, verdict,
            row.text + (", " + row.unit if row.unit else ""), both)
