"""One line of progress that rewrites itself on a terminal and keeps quiet elsewhere."""

import sys
import time


class ProgressLine:
    """Shows done/total, a rate and the time left; at most ten times a second, and only on a terminal.

    Args:
        total: Number of units in the whole job.
        unit: Their name, as in "images".
        done: Units that were done earlier, so that they don't count in the rate.
    """

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.total, self.unit, self.first = total, unit, done
        self._started = time.monotonic()
        self._drawn = 0.0
        self._shown = sys.stderr.isatty()

    def update(self, done: int, text: str = "", rate: float | None = None) -> None:
        """Draws the line. `rate` is in units per second; without it, the mean since the start."""
        now = time.monotonic()
        if not self._shown or (now - self._drawn < 0.1 and done < self.total):
            return
        self._drawn = now
        rate = rate or (done - self.first) / max(now - self._started, 1e-9)
        filled = 20 * done // max(self.total, 1)
        bar = "#" * filled + "." * (20 - filled)
        left = duration((self.total - done) / rate) if rate > 0 else "?"
        line = f"[{bar}] {done}/{self.total}  {rate:.1f} {self.unit}/s  {left} left  {text}"
        self._print(f"\r\x1b[K{line}")

    def clear(self) -> None:
        """Wipes the line, so that something else can be printed in its place."""
        if self._shown:
            self._print("\r\x1b[K")

    def _print(self, text: str) -> None:
        try:
            print(text, end="", file=getattr(sys.stderr, "unescaped", sys.stderr), flush=True)
        except OSError:  # the terminal has gone: no reason to end what is being done
            self._shown = False


def duration(secs: float) -> str:
    """4000 -> `1:06:40`; 65 -> `1:05`."""
    minutes, secs = divmod(round(secs), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def rough_duration(secs: float) -> str:
    """61000 -> `17 h`; 4000 -> `67 min`; 40 -> `40 s`; 260000 -> `3.0 days`."""
    for unit, length, until in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if round(secs / length) < until:
            return f"{round(secs / length)} {unit}"
    return f"{secs / 86400:.1f} days"
