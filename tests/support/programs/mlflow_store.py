"""Makes a store with MLflow itself, and prints what MLflow says of it; run by MLflow's own Python.

python mlflow_store.py folder|database DIR
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
warnings.simplefilter("ignore")

from mlflow import MlflowClient  # noqa: E402 - it reads the environment when it is imported


def make(kind: str, root: Path) -> dict[str, object]:
    """Make the store; return what MLflow says of it."""
    os.chdir(root)
    uri = "sqlite:///mlflow.db" if kind == "database" else (root / "mlruns").as_uri()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("Churn models")
    files = root / "aside"
    (files / "model").mkdir(parents=True)
    runs: list[str] = []
    for number in (1, 2, 3, 4, 5):
        parent = {"mlflow.parentRunId": runs[0]} if runs else {}
        tags = {"team": "risk", "mlflow.source.git.commit": "0" * 39 + str(number), **parent}
        run = client.create_run(experiment, tags=tags, run_name=f"run number {number}")
        guid = run.info.run_id
        runs.append(guid)
        client.log_param(guid, "depth", number)
        client.log_param(guid, "optimizer/lr", 0.05)
        for step, value in enumerate((0.5, 0.9 + number / 1000)):
            client.log_metric(guid, "auc", value, step=step)
        client.log_metric(guid, "val/loss", 1e-05)
        client.log_metric(guid, "bad", float("nan"))
        if number < 5:
            (files / "model" / "MLmodel").write_text(f"flavors: {number}\n")
            (files / "model" / "weights.bin").write_bytes(bytes([number]) * 100_000)
            client.log_artifacts(guid, str(files / "model"), "model")
            client.log_text(guid, f"notes {number}", "notes.txt")
        client.set_terminated(guid)
    client.create_registered_model("churn", description="who leaves")
    for number in (1, 2, 3, 4):
        guid = runs[number - 1]
        source = f"{client.get_run(guid).info.artifact_uri}/model"
        client.create_model_version("churn", source, guid, description=f"version {number}")
    # The same bytes once more: MLflow gives them another number.
    client.create_model_version(
        "churn", f"{client.get_run(runs[0]).info.artifact_uri}/model", runs[0]
    )
    client.delete_model_version("churn", "2")
    client.set_registered_model_alias("churn", "champion", "3")
    client.transition_model_version_stage("churn", "4", "Production")
    client.transition_model_version_stage("churn", "1", "Archived")
    client.set_model_version_tag("churn", "3", "checked", "yes")
    logged = client.create_logged_model(experiment, name="forest", source_run_id=runs[2])
    client.log_model_artifacts(logged.model_id, str(files / "model"))
    client.finalize_logged_model(logged.model_id, "READY")
    other = "Forest, new"
    client.create_registered_model(other)
    client.create_model_version(
        other, f"models:/{logged.model_id}", runs[2], model_id=logged.model_id
    )
    gone = client.create_run(experiment).info.run_id
    client.delete_run(gone)
    return {
        "uri": uri,
        "other": other,
        "deleted": gone,
        "experiment": experiment,
        "runs": {guid: _run(client, guid) for guid in runs},
        "versions": {
            each.version: {
                "created": each.creation_timestamp,
                "by": each.user_id,
                "description": each.description,
                "run": each.run_id,
            }
            for each in client.search_model_versions("name = 'churn'")
        },
    }


def _run(client: MlflowClient, guid: str) -> dict[str, object]:
    run = client.get_run(guid)
    return {
        "end": run.info.end_time,
        "by": run.info.user_id,
        "metrics": {name: repr(value) for name, value in run.data.metrics.items()},
        "params": run.data.params,
        "tags": run.data.tags,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(make(sys.argv[1], Path(sys.argv[2]))) + "\n")
