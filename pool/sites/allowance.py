"""How often whoever is asked lets himself be asked. Must not know: what for."""

import trio


class Allowance:
    """So many at once, and one each so many seconds."""

    def __init__(self, burst: int, each_s: float) -> None:
        self._burst, self._each_s = burst, each_s
        self._left, self._at_s = float(burst), trio.current_time()

    @property
    def left(self) -> bool:
        """Whether one may be taken."""
        now_s = trio.current_time()
        self._left = min(self._burst, self._left + (now_s - self._at_s) / self._each_s)
        self._at_s = now_s
        return self._left >= 1

    def take(self) -> bool:
        if not self.left:
            return False
        self._left -= 1
        return True
