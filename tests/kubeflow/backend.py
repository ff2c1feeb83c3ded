"""What the server of tests keeps: experiments, pipelines, versions, runs and recurring runs.

The rules are those of Kubeflow Pipelines 2.17 (backend/src/apiserver): names of pipelines,
versions and experiments are unique, names of runs and recurring runs are not; a run that has ended
cannot be terminated; arguments must be those that the pipeline declares.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from tests.kubeflow import robfig
from tests.kubeflow.contract import Contract, Refusal

Values = dict[str, Any]
_ENDED = {"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"}
_PAGE, _LARGEST_PAGE = 20, 200
_DEFINITIONS = {  # of the items of a list
    "experiments": "v2beta1Experiment",
    "pipeline_versions": "v2beta1PipelineVersion",
    "runs": "v2beta1Run",
    "recurringRuns": "v2beta1RecurringRun",
}
_TYPES = {"STRING": str, "BOOLEAN": bool, "NUMBER_INTEGER": int, "STRUCT": dict, "LIST": list}


class Backend:
    """The state, and a method for each call that there is.

    Attributes:
        plan: The states that a run goes through, one for each time that it is asked for.
        ended: Is called with the id of a run that succeeds or fails, as its tasks would do their work.
        namespaces: Those of an installation with several users; None: it has one.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.plan = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.ended: Callable[[str], None] = lambda run: None
        self.namespaces: set[str] | None = None
        self.experiments: dict[str, Values] = {}
        self.pipelines: dict[str, Values] = {}
        self.versions: dict[str, Values] = {}
        self.runs: dict[str, Values] = {}
        self.schedules: dict[str, Values] = {}
        self.deleted: list[
            tuple[str, str]
        ] = []  # ids of recurring runs, and what became of their runs

    def perform(self, operation: str, path: Values, query: Values, body: Any) -> Values:
        """Gives the answer to a call."""
        method = getattr(self, operation, None)
        if method is None:
            raise Refusal(501, f"{operation} is not part of the server of tests")
        return method(path, query, body)

    # --- experiments ------------------------------------------------------------------------------

    def ExperimentService_CreateExperiment(
        self, path: Values, query: Values, body: Values
    ) -> Values:
        namespace = self._namespace(body.get("namespace"))
        self._refuse_twin(self.experiments, display_name=body["display_name"], namespace=namespace)
        made = self._made("experiment_id", body, namespace=namespace, storage_state="AVAILABLE")
        return self.experiments.setdefault(made["experiment_id"], made)

    def ExperimentService_ListExperiments(self, path: Values, query: Values, body: None) -> Values:
        namespace = self._namespace(query.get("namespace"))
        items = [each for each in self.experiments.values() if each["namespace"] == namespace]
        return self._page("experiments", items, query)

    def ExperimentService_GetExperiment(self, path: Values, query: Values, body: None) -> Values:
        return _get(self.experiments, path["experiment_id"], "Experiment")

    # --- pipelines --------------------------------------------------------------------------------

    def PipelineService_CreatePipeline(self, path: Values, query: Values, body: Values) -> Values:
        namespace = self._namespace(body.get("namespace"))
        self._refuse_twin(self.pipelines, name=body["name"], namespace=namespace)
        made = self._made(
            "pipeline_id", {"display_name": body["name"], **body}, namespace=namespace
        )
        return self.pipelines.setdefault(made["pipeline_id"], made)

    def PipelineService_GetPipelineByName(self, path: Values, query: Values, body: None) -> Values:
        namespace = self._namespace(query.get("namespace"))
        for each in self.pipelines.values():
            if (each["name"], each["namespace"]) == (path["name"], namespace):
                return each
        raise Refusal(404, f"Pipeline {path['name']} not found")

    def PipelineService_GetPipeline(self, path: Values, query: Values, body: None) -> Values:
        return _get(self.pipelines, path["pipeline_id"], "Pipeline")

    def PipelineService_ListPipelineVersions(
        self, path: Values, query: Values, body: None
    ) -> Values:
        _get(self.pipelines, path["pipeline_id"], "Pipeline")
        items = [
            each for each in self.versions.values() if each["pipeline_id"] == path["pipeline_id"]
        ]
        return self._page("pipeline_versions", items, query)

    def UploadPipelineVersion(self, path: Values, query: Values, body: bytes) -> Values:
        pipeline = query.get("pipelineid") or ""
        if pipeline not in self.pipelines:
            raise Refusal(400, "Failed to create a pipeline version")
        try:
            spec, *platform = yaml.load_all(body, yaml.CSafeLoader)
            if "root" not in spec:
                raise ValueError
        except (ValueError, TypeError, yaml.YAMLError):
            raise Refusal(400, "Failed to read a pipeline spec file") from None
        self._refuse_twin(self.versions, name=query["name"], pipeline_id=pipeline)
        described = {key: query[key] for key in ("name", "description") if key in query}
        whole = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        made = self._made(
            "pipeline_version_id",
            {"display_name": query["name"], **described},
            pipeline_id=pipeline,
            pipeline_spec=whole,
        )
        return self.versions.setdefault(made["pipeline_version_id"], made)

    # --- runs -------------------------------------------------------------------------------------

    def RunService_CreateRun(self, path: Values, query: Values, body: Values) -> Values:
        self._check_source(body)
        made = self._made("run_id", body, state=self.plan[0], storage_state="AVAILABLE")
        return self.runs.setdefault(made["run_id"], made)

    def RunService_GetRun(self, path: Values, query: Values, body: None) -> Values:
        run = _get(self.runs, path["run_id"], "Run")
        answer = dict(run)
        self._advance(run)
        return answer

    def RunService_ListRuns(self, path: Values, query: Values, body: None) -> Values:
        return self._page("runs", self._of_experiment(self.runs, query), query)

    def RunService_TerminateRun(self, path: Values, query: Values, body: None) -> Values:
        run = _get(self.runs, path["run_id"], "Run")
        if run["state"] not in ("PENDING", "RUNNING", "PAUSED"):
            raise Refusal(400, f"Failed to terminate a run {path['run_id']}. Row not found")
        run["state"] = "CANCELING"
        return {}

    # --- recurring runs ---------------------------------------------------------------------------

    def RecurringRunService_CreateRecurringRun(
        self, path: Values, query: Values, body: Values
    ) -> Values:
        self._check_source(body)
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refusal(
                400, "Max concurrency of a recurring run must be at least 1 and at most 10"
            )
        if "cron_schedule" in body["trigger"]:
            robfig.parse(body["trigger"]["cron_schedule"]["cron"])
        enabled = body.get("mode") == "ENABLE"
        made = self._made("recurring_run_id", body, status="ENABLED" if enabled else "DISABLED")
        made |= {"updated_at": made["created_at"], "max_concurrency": str(body["max_concurrency"])}
        made.setdefault("service_account", "pipeline-runner")  # the installation's own
        return self.schedules.setdefault(made["recurring_run_id"], made)

    def RecurringRunService_ListRecurringRuns(
        self, path: Values, query: Values, body: None
    ) -> Values:
        return self._page("recurringRuns", self._of_experiment(self.schedules, query), query)

    def RecurringRunService_DeleteRecurringRun(
        self, path: Values, query: Values, body: None
    ) -> Values:
        _get(self.schedules, path["recurring_run_id"], "Recurring run")
        del self.schedules[path["recurring_run_id"]]
        policy = query.get("propagation_policy", "BACKGROUND")
        self.deleted.append((path["recurring_run_id"], policy))
        return {}

    def RecurringRunService_EnableRecurringRun(
        self, path: Values, query: Values, body: None
    ) -> Values:
        return self._enable(path, True)

    def RecurringRunService_DisableRecurringRun(
        self, path: Values, query: Values, body: None
    ) -> Values:
        return self._enable(path, False)

    def HealthzService_GetHealthz(self, path: Values, query: Values, body: None) -> Values:
        return {"multi_user": self.namespaces is not None}

    # --- what several of them do ------------------------------------------------------------------

    def _made(self, key: str, given: Values, **more: Any) -> Values:
        self._clock += timedelta(seconds=1)
        return {key: str(uuid.uuid4()), "created_at": self._clock.isoformat(), **given, **more}

    def _namespace(self, name: str | None) -> str:
        if self.namespaces is None:
            return name or ""
        if not name:
            raise Refusal(400, "a resource cannot have an empty namespace in multi-user mode")
        if name not in self.namespaces:
            raise Refusal(403, f"User is not authorized with reason: no access to namespace {name}")
        return name

    def _refuse_twin(self, held: dict[str, Values], **unique: str) -> None:
        if any(all(each[key] == value for key, value in unique.items()) for each in held.values()):
            raise Refusal(409, f"{' '.join(unique.values())} already exists")

    def _of_experiment(self, held: dict[str, Values], query: Values) -> list[Values]:
        if "experiment_id" in query:
            experiments = [_get(self.experiments, query["experiment_id"], "Experiment")]
        else:
            namespace = self._namespace(query.get("namespace"))
            experiments = [
                each for each in self.experiments.values() if each["namespace"] == namespace
            ]
        ids = {each["experiment_id"] for each in experiments}
        return [each for each in held.values() if each["experiment_id"] in ids]

    def _check_source(self, body: Values) -> None:
        """Refuses a run of no pipeline, and arguments that its pipeline does not declare."""
        _get(self.experiments, body.get("experiment_id", ""), "Experiment")
        reference = body.get("pipeline_version_reference") or {}
        version = _get(self.versions, reference.get("pipeline_version_id", ""), "Pipeline version")
        spec = version["pipeline_spec"]
        declared = spec.get("pipeline_spec", spec)["root"]["inputDefinitions"]["parameters"]
        given = (body.get("runtime_config") or {}).get("parameters", {})
        for name, value in given.items():
            if name not in declared:
                raise Refusal(400, f"parameter {name} is not one of the pipeline")
            if not isinstance(value, _TYPES[declared[name]["parameterType"]]):
                raise Refusal(400, f"input parameter {name} requires another type")
        for name, parameter in declared.items():
            if name not in given and not parameter.get("isOptional"):
                raise Refusal(400, f"parameter {name} is not optional, yet has no value")

    def _advance(self, run: Values) -> None:
        if run["state"] == "CANCELING":
            run["state"] = "CANCELED"
        elif run["state"] in self.plan[:-1]:
            run["state"] = self.plan[self.plan.index(run["state"]) + 1]
        if run["state"] in _ENDED and "finished_at" not in run:
            self._clock += timedelta(minutes=5)
            run["finished_at"] = self._clock.isoformat()
            self.ended(run["run_id"])

    def _enable(self, path: Values, enabled: bool) -> Values:
        schedule = _get(self.schedules, path["recurring_run_id"], "Recurring run")
        schedule["status"] = "ENABLED" if enabled else "DISABLED"
        schedule["mode"] = "ENABLE" if enabled else "DISABLE"
        return {}

    def _page(self, field: str, items: Iterable[Values], query: Values) -> Values:
        """One page of a list, whose items have the fields of their definition."""
        fields = self._contract.definitions[_DEFINITIONS[field]]["properties"]
        predicates = self._read_filter(query.get("filter"), fields)
        kept = [
            item
            for item in items
            if all(str(item.get(each["key"])) == each["string_value"] for each in predicates)
        ]
        order = query.get("sort_by") or "created_at"
        name, _, direction = order.partition(" ")
        if direction not in ("", "asc", "desc") or name not in fields:
            raise Refusal(400, f"Invalid sorting field: {order}")
        kept.sort(key=lambda item: item[name], reverse=direction == "desc")
        size = min(int(query.get("page_size") or 0) or _PAGE, _LARGEST_PAGE)
        criteria = [query.get("sort_by"), query.get("filter")]
        start = 0
        if query.get("page_token"):
            start, *before = json.loads(base64.b64decode(query["page_token"]))
            if before != criteria:
                raise Refusal(400, "page token does not match the sort by and/or filtering")
        answer = {field: kept[start : start + size], "total_size": len(kept)}
        if start + size < len(kept):
            token = json.dumps([start + size, *criteria]).encode()
            answer["next_page_token"] = base64.b64encode(token).decode()
        return answer

    def _read_filter(self, text: str | None, fields: Values) -> list[Values]:
        """The predicates of a filter, all of which must hold."""
        if not text:
            return []
        try:
            given = json.loads(text)
        except ValueError:
            raise Refusal(400, f"filter must be JSON: {text}") from None
        self._contract.check(given, {"$ref": "#/definitions/v2beta1Filter"}, "filter")
        predicates: list[Values] = given.get("predicates", [])
        for predicate in predicates:
            if predicate["key"] not in fields:
                raise Refusal(400, f"no support for filtering on {predicate['key']}")
            if predicate["operation"] != "EQUALS" or "string_value" not in predicate:
                raise Refusal(501, "only EQUALS of texts is part of the server of tests")
        return predicates


def _get(held: dict[str, Values], key: str, kind: str) -> Values:
    if key not in held:
        raise Refusal(404, f"{kind} {key} not found")
    return held[key]
