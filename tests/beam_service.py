"""Beam's portable job service with two workers for each pipeline; run as a program.

    python -m tests.beam_service <port>

Beam's own program gives a pipeline one worker, whatever its options say.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.local_job_service import BeamJob, LocalJobServicer

WORKERS = 2


class _Job(BeamJob):
    def _invoke_runner(self) -> Any:
        self.set_state(beam_job_api_pb2.JobState.RUNNING)
        runner = FnApiRunner(provision_info=self._provision_info)
        runner._num_workers = WORKERS
        return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())


if __name__ == "__main__":
    LocalJobServicer(beam_job_type=_Job).start_grpc_server(int(sys.argv[1]))
    signal.pause()
