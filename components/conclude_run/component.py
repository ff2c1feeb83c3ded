"""Kubeflow wrapper of `conclude_run`."""

from kfp.dsl import HTML, Output

from components.kubeflow import component


@component()
def conclude_run(project: str, report: Output[HTML]):
    """Ends the run, however it went; the report is shown on the dashboard.

    It is the exit task, which is given nothing of the other tasks: it asks the ledger and the root.
    """
    from components.conclude_run.ending import copy_report, end_run, has_begun
    from components.stored_step import StagedTask
    from perennial.production.messages import send_or_tell

    if has_begun(project):
        with StagedTask(project, "conclude_run", place="last") as task:
            end_run(task.project, task.results, task.run, task.fence)
            task.release()
            if task.is_of_tasks:  # where a process runs them, it sends messages
                for line in send_or_tell(task.project):
                    print(f"note: {line}")
    copy_report(project, report.path)
