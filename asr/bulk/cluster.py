"""Jobs on a Ray cluster, by Ray Data: a pool of actors, each with a `Worker`; Ray repeats the jobs of a lost node."""

import logging
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, cast

from asr.bulk.worker import Job, Row, Settings, Worker
from asr.errors import AsrError, one_line


class Actor:
    """Maps rows of a Ray dataset: a job to its result, both pickled by this program itself."""

    def __init__(self, settings: Settings):
        if threading.current_thread() is threading.main_thread():
            # Ray ignores SIGCHLD, so the system reaps child processes and their exit cannot be noticed.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.worker = Worker(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = pickle.loads(row["job"])
        return {"result": pickle.dumps((job, self.worker(job)))}


def connect(address: str) -> int:
    """Join a cluster: one at an address, "auto" for that of this machine, "local" for a new one that is for this
    program alone and gone with it. Returns the number of its processors.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        # What Ray has for Windows and macOS: all of its ports are open to this machine only, not to the network.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise AsrError(
            f"a cluster needs more packages ({error.name} is missing): pip install 'recurrent-asr[bulk]'"
        ) from None
    dashboard = False if address == "local" else None
    try:
        ray.init(address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's own, of gRPC, of the system
        raise AsrError(f"--cluster {address}: {one_line(error)}; check that the cluster runs") from None
    return int(ray.cluster_resources().get("CPU", 1))


def run_on_cluster(settings: Settings, workers: int, jobs: Iterable[Job]) -> Iterator[tuple[Job, list[Row]]]:
    """The results of jobs, in any order; the cluster is joined."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    items = [{"job": pickle.dumps(job)} for job in jobs]
    if not items:
        return
    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        cast(Any, Actor),
        fn_constructor_args=(settings,),
        compute=ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=1,
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["result"])
