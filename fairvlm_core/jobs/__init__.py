"""Runs in the background: a queue for each device, served by one worker process, one run at a time.

```
workspace/jobs/
    .queue.lock      held while the order of the queue is read or changed
    cpu.json         the process that serves the device
    cpu.log          its output
    .cpu.worker.lock held by the worker
    .cpu.device.lock held by the process that trains on the device
```

A run goes queued → running → finished, failed, cancelled or interrupted. Its state is kept in its own folder and changed by
the process that holds the run (`Run.held`). The queue is the queued runs with a ticket, in the order of their tickets.
"""

from .cost import Cost, StepTime, estimate, known_step, measure_step
from .queue import Job, cancel, clone, device_of, jobs, launch, resume
from .worker import ensure_workers, serving, stand_by, work

__all__ = [
    "Cost",
    "Job",
    "StepTime",
    "cancel",
    "clone",
    "device_of",
    "ensure_workers",
    "estimate",
    "jobs",
    "known_step",
    "launch",
    "measure_step",
    "resume",
    "serving",
    "stand_by",
    "work",
]
