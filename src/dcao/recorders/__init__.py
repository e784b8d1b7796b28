"""Where records are written: memory, a file, or a tracker of experiments."""

from dcao.recorders.base import MemoryRecorder, Recorder
from dcao.recorders.jsonl import JsonlRecorder
from dcao.recorders.tensorboard import TensorBoardRecorder
from dcao.recorders.trackers import TrackioRecorder, WandbRecorder

__all__ = ["JsonlRecorder", "MemoryRecorder", "Recorder", "TensorBoardRecorder", "TrackioRecorder", "WandbRecorder"]
