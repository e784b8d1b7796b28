"""Peak memory of one run among others in the same process."""

from pathlib import Path

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # proc(5): sets the peak of the resident memory to what it is now


class PeakMemory:
    """Highest memory use since this object was made, or None where the system does not say.

    On CUDA: what torch had allocated on the device. On the CPU under Linux: resident memory of the whole process,
    which includes Python, the libraries and what earlier runs in this process have left, so only differences between
    runs that are done alike mean anything. Both include the one copy of the parameters that ``update_norm`` needs.
    Elsewhere the system's peak is that of the process's whole life, which would be another run's as easily as this
    one's: None.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._is_reset = self._reset()

    def bytes(self) -> int | None:
        """The peak so far."""
        if not self._is_reset:
            return None
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _peak_resident()

    def _reset(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
        except OSError:
            return False
        return self.device.type == "cpu"


def _peak_resident() -> int | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
