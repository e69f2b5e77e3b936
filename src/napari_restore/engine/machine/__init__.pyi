from ._budget import MIB, PeakMemory, default_memory, parse_size, peak_in, process_memory
from ._device import ENVIRONMENT, Device, choose_device, cores
from ._device_memory import DeviceMemory, TensorCount, peak_of
from ._failures import FAILURES, as_failure, clear_frames, is_out_of_memory
from ._precision import AUTO, check_precision, chosen_precision, computing, dtype_of
from ._threads import map_parallel, on_new_thread

__all__ = [
    "AUTO",
    "ENVIRONMENT",
    "FAILURES",
    "MIB",
    "Device",
    "DeviceMemory",
    "PeakMemory",
    "TensorCount",
    "as_failure",
    "check_precision",
    "choose_device",
    "chosen_precision",
    "clear_frames",
    "computing",
    "cores",
    "default_memory",
    "dtype_of",
    "is_out_of_memory",
    "map_parallel",
    "on_new_thread",
    "parse_size",
    "peak_in",
    "peak_of",
    "process_memory",
]
