"""Seeded bugs of phase local: downloads, engines, what is known of the weights. Pure data."""

from tests.faults.mutants.base import Mutant, mutant

MUTANTS: tuple[Mutant, ...] = (
    mutant(
        "a download whose pod is done a moment before its Job is called failed",
        "migration.py",
        'if (running is not None and running.ready) or ended == "Downloaded":',
        "if running is not None and running.ready:",
        "test_model_checks.py",
    ),
    mutant(
        "a download is recorded before it is known what it brought",
        "migration.py",
        'if model.job and model.job.state == "complete" and model.job.result:',
        'if model.job and model.job.state == "complete":',
        "test_plan_walks.py",
    ),
    mutant(
        "an engine is started with weights that are known not to fit",
        "migration.py",
        "ready = model.arrived and fits",
        "ready = model.arrived",
        "test_model_checks.py",
    ),
    mutant(
        "what old pods serve may be removed by a download",
        "migration.py",
        'return frozenset(filter(None, (live, *(a.get(names.LIST_HASH, "") for a in running))))',
        "return frozenset()",
        "test_plan_weights.py",
        "test_plan_walks.py",
    ),
    mutant(
        "a download that fetches is begun anew by an edit",
        "plan.py",
        'elif job.state == "complete" or job.fetches:',
        'elif job.state == "complete":',
        "test_model_checks.py",
        "test_plan_weights.py",
    ),
    mutant(
        "a failure that will not pass is tried again and again",
        "plan.py",
        "return not lasting and job.ended_at is not None",
        "return job.ended_at is not None",
        "test_model_checks.py",
    ),
    mutant(
        "the end of the engine beside it counts as a download's last words",
        "observe.py",
        'ends = [(c.get("name") != main, e) for c in containers',
        "ends = [(False, e) for c in containers",
        "test_model_checks.py",
    ),
    mutant(
        "a download may remove what serves",
        "desired/download.py",
        '"CHATBOT_KEEP_LISTS": ",".join(serving),',
        '"CHATBOT_KEEP_LISTS": "",',
        "test_engine.py",
    ),
    mutant(
        "an engine can be asked past the runtime",
        "desired/engine.py",
        '"--host": "127.0.0.1",',
        '"--host": "0.0.0.0",',
        "test_engine.py",
    ),
    mutant(
        "a serving pod may write the weights",
        "desired/engine.py",
        '"mountPath": str(MODELS_FOLDER), "readOnly": True}',
        '"mountPath": str(MODELS_FOLDER), "readOnly": False}',
        "test_engine.py",
    ),
    mutant(
        "the progress of a download is written each time somebody looks",
        "statuses.py",
        'return old.model_copy(update={"download": new.download}) == new',
        "return False",
        "test_held_news.py",
    ),
)
