"""MLflow: a benchmark is a parent run, a method a child run, a fold or trial a grandchild run.

What is logged of a fold comes from the result store, never from the training, and only if it is not
in MLflow yet. So a resumed run also logs what an interrupted one left out, a repeated run logs
nothing twice, and what a server missed can be logged later.
"""

import os

# MLflow's usage telemetry is off, whatever its default: data may come from hospitals.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# Wait seconds, not MLflow's minutes, for a server that does not answer, and not as long as it asks
# for (Retry-After), unless the user says so.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
