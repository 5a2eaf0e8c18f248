"""The pods of phase local and of its downloads, as manifests."""

from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.desired.deployment import backend_template
from chatbot_operator.desired.download import download_extras, download_job
from chatbot_operator.settings import Settings
from chatbot_operator.units import quantity
from tests.support.scenes import Scene

GGUF = "hf://org/tiny/q4/tiny.gguf@v1"


def pod(local: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """The backend's pod template."""
    scene = Scene({"phase": "local", "local": local or {}, **spec})
    return backend_template(scene.chatbot, Settings())


def engine(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["initContainers"]
    return dict(found)


def runtime(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    return dict(found)


def env(container: dict[str, Any]) -> dict[str, str]:
    return {e["name"]: e["value"] for e in container["env"]}


def flags(container: dict[str, Any]) -> dict[str, str]:
    arguments = container["args"]
    return {a: arguments[i + 1] for i, a in enumerate(arguments[:-1]) if a.startswith("--")}


def job(local: dict[str, Any] | None = None, serving: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    scene = Scene({"phase": "local", "local": local or {}, **spec})
    return download_job(scene.chatbot, Settings(), claim="demo-models", claim_uid="u", capacity="20Gi", serving=serving)


def test_an_engine_is_a_native_sidecar_on_the_pods_loopback_that_may_write_nothing_but_its_home() -> None:
    for reference in ("phi", GGUF):
        container = engine(pod({"models": [reference]}))
        assert container["restartPolicy"] == "Always"
        assert not {"ports", "startupProbe", "readinessProbe", "livenessProbe"} & container.keys()
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {m["name"]: m.get("readOnly", False) for m in container["volumeMounts"]} == {
            "engine-home": False,
            "models": True,
        }
    assert env(engine(pod()))["OLLAMA_HOST"] == "127.0.0.1:11434"
    assert flags(engine(pod({"models": [GGUF]})))["--host"] == "127.0.0.1"


def test_ollama_keeps_the_model_has_the_specs_slots_and_context_and_calls_nobody() -> None:
    told = env(engine(pod({"parallel": 3, "contextLength": 2048, "keepAlive": "30m"})))
    assert (told["OLLAMA_NUM_PARALLEL"], told["OLLAMA_CONTEXT_LENGTH"], told["OLLAMA_KEEP_ALIVE"]) == (
        "3",
        "2048",
        "30m",
    )
    assert (told["OLLAMA_NOPRUNE"], told["OLLAMA_NO_CLOUD"]) == ("1", "1")


def test_llama_server_serves_the_downloaded_file_under_the_models_own_name() -> None:
    told = flags(engine(pod({"models": [GGUF], "parallel": 2, "contextLength": 1024})))
    assert told["--model"] == "/models/hf/org/tiny/v1/q4/tiny.gguf"
    assert told["--alias"] == GGUF
    assert (told["--parallel"], told["--ctx-size"]) == ("2", "2048")


@pytest.mark.parametrize(
    ("source", "file", "folder"),
    [
        ({"claim": {"name": "mine", "subPath": "llm"}}, "/models/q4/tiny.gguf", None),
        ({"image": {"reference": "example.com/llama:1", "path": "/weights"}}, "/weights/q4/tiny.gguf", "/weights"),
    ],
    ids=["claim", "image"],
)
def test_weights_that_were_not_downloaded_lie_at_their_path_in_the_repository(
    source: dict[str, Any], file: str, folder: str | None
) -> None:
    template = pod({"models": [GGUF], "source": source})
    assert flags(engine(template))["--model"] == file
    told = env(runtime(template))
    if folder:
        assert engine(template)["image"] == "example.com/llama:1"
        assert "CHATBOT_MODEL_FILE" not in told
        assert not [v for v in template["spec"]["volumes"] if v["name"] == "models"]
        assert env(engine(pod({"source": source})))["OLLAMA_MODELS"] == folder
    else:
        assert told["CHATBOT_MODEL_FILE"] == file
        (volume,) = (v for v in template["spec"]["volumes"] if v["name"] == "models")
        assert volume["persistentVolumeClaim"] == {"claimName": "mine"}
        for container in (engine(template), runtime(template)):
            (mount,) = (m for m in container["volumeMounts"] if m["name"] == "models")
            assert (mount["subPath"], mount["readOnly"]) == ("llm", True)
    assert "affinity" not in template["spec"]


@pytest.mark.parametrize(
    ("resources", "requests", "limits", "threads"),
    [
        ({}, ("1400m", "3968Mi"), ("2", "3968Mi"), "2"),
        ({"requests": {"cpu": "4100m", "memory": "8Gi"}}, ("4", "8064Mi"), ("4", "8064Mi"), "4"),
        ({"requests": {"cpu": "300m", "memory": "1Gi"}}, ("200m", "896Mi"), ("1", "896Mi"), "1"),
        (
            {"requests": {"cpu": "1500m", "memory": "4Gi"}, "limits": {"cpu": "3500m", "memory": "6Gi"}},
            ("1400m", "3968Mi"),
            ("4", "6016Mi"),
            "4",
        ),
    ],
    ids=["default", "whole cores", "less than a core", "limits"],
)
def test_the_engine_gets_all_but_the_runtimes_part_and_as_many_threads_as_its_whole_cores(
    resources: dict[str, Any], requests: tuple[str, str], limits: tuple[str, str], threads: str
) -> None:
    template = pod({"models": [GGUF], "resources": resources})
    given = engine(template)["resources"]
    assert (given["requests"]["cpu"], given["requests"]["memory"]) == requests
    assert (given["limits"]["cpu"], given["limits"]["memory"]) == limits
    assert flags(engine(template))["--threads"] == threads
    own = runtime(template)["resources"]["requests"]
    whole = Scene({"phase": "local", "local": {"resources": resources}}).chatbot.spec.local.resources.requests
    assert quantity(own["cpu"]) + quantity(given["requests"]["cpu"]) == quantity(whole.cpu)
    assert quantity(own["memory"]) + quantity(given["requests"]["memory"]) == quantity(whole.memory)


def test_a_gpu_adds_its_resource_and_nothing_else_but_where_the_layers_lie() -> None:
    without, with_gpu = (pod({"models": [GGUF], **gpu}) for gpu in ({}, {"gpu": {"count": 2}}))
    assert engine(with_gpu)["resources"]["limits"].pop("nvidia.com/gpu") == "2"
    at = engine(with_gpu)["args"].index("--gpu-layers")
    assert engine(with_gpu)["args"][:at] + engine(with_gpu)["args"][at + 2 :] == engine(without)["args"]
    assert engine(with_gpu)["resources"]["requests"] == engine(without)["resources"]["requests"]


def test_the_runtime_is_told_the_engine_its_slots_and_where_to_look_for_what_is_missing() -> None:
    told = env(runtime(pod({"models": ["phi", "tinyllama:1b"], "parallel": 2})))
    assert told["CHATBOT_MODELS"] == "phi,tinyllama:1b"
    assert told["CHATBOT_SERVER"] == "ollama"
    assert told["CHATBOT_BASE_URL"] == "http://127.0.0.1:11434/v1"
    assert told["CHATBOT_MAX_RUNNING"] == "2"
    assert told["CHATBOT_MODELS_DIR"] == "/models"
    assert env(runtime(pod({"models": [GGUF]})))["CHATBOT_SERVER"] == "llama.cpp"


def test_pods_of_a_claim_of_one_node_are_put_together_with_its_download_and_those_of_many_nodes_are_not() -> None:
    for template in (pod(), job()["spec"]["template"]):
        (term,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert term["topologyKey"] == "kubernetes.io/hostname"
    many = {"storage": {"accessMode": "ReadWriteMany"}}
    for template in (pod(many), job(many)["spec"]["template"]):
        assert "affinity" not in template["spec"]


def test_without_its_engine_a_pod_has_no_volume_and_says_that_the_model_is_on_its_way() -> None:
    scene = Scene({"phase": "local"})
    template = backend_template(scene.chatbot, Settings(), with_engine=False)
    assert "initContainers" not in template["spec"]
    assert not [v for v in template["spec"]["volumes"] if v["name"] == "models"]
    assert env(runtime(template))["CHATBOT_SERVER"] == "none"
    assert names.CLAIM_LABEL not in template["metadata"]["labels"]


def test_ollamas_models_are_fetched_by_a_server_beside_the_downloader_and_files_by_the_downloader_itself() -> None:
    ollama = job({"source": {"download": {"registry": "registry.example.com:5000", "insecure": True}}}, ("aa", "bb"))
    (server,) = ollama["spec"]["template"]["spec"]["initContainers"]
    (downloader,) = ollama["spec"]["template"]["spec"]["containers"]
    told = env(downloader)
    assert env(server)["OLLAMA_MODELS"] == told["CHATBOT_MODELS_DIR"] == "/models"
    assert (told["CHATBOT_REGISTRY"], told["CHATBOT_REGISTRY_INSECURE"]) == ("registry.example.com:5000", "true")
    assert told["CHATBOT_KEEP_LISTS"] == "aa,bb"
    assert all(not m.get("readOnly") for c in (server, downloader) for m in c["volumeMounts"])
    file = job({"models": [GGUF]})["spec"]["template"]["spec"]
    assert "initContainers" not in file
    assert env(file["containers"][0])["CHATBOT_HUB_URL"] == "https://huggingface.co"


def test_a_download_asks_for_what_the_serving_pod_will_need() -> None:
    for local in ({}, {"models": [GGUF]}):
        whole = Scene({"phase": "local", "local": local}).chatbot.spec.local.resources.requests
        spec = job(local)["spec"]["template"]["spec"]
        containers = [*spec["containers"], *spec.get("initContainers", ())]
        for name, wanted in (("cpu", whole.cpu), ("memory", whole.memory)):
            assert sum(quantity(c["resources"]["requests"][name]) for c in containers) == quantity(wanted)


def test_the_token_of_a_download_is_a_file_of_the_downloader_and_of_nobody_else() -> None:
    spec = job({"models": [GGUF], "tokenSecretRef": {"name": "hub", "key": "key"}})["spec"]["template"]["spec"]
    (volume,) = (v for v in spec["volumes"] if v["name"] == "token")
    assert volume["secret"] == {
        "secretName": "hub",
        "items": [{"key": "key", "path": "token"}],
        "optional": True,
    }
    assert env(spec["containers"][0])["CHATBOT_TOKEN_FILE"] == "/etc/chatbot/token/token"
    local = {"models": [GGUF], "tokenSecretRef": {"name": "hub"}}
    assert not [v for v in pod(local)["spec"]["volumes"] if v["name"] == "token"]


def test_a_download_may_go_out_to_where_its_models_come_from_and_its_pod_may_be_asked_by_the_chatbots_own() -> None:
    scene = Scene(
        {
            "phase": "local",
            "local": {"source": {"download": {"registry": "registry.example.com:5000"}}},
            "network": {"httpsProxy": "http://proxy.example.com:3128"},
        }
    )
    service, policy = download_extras(scene.chatbot, Settings())
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"]
    _, out = policy["spec"]["egress"]
    assert [p["port"] for p in out["ports"]] == [443, 3128, 5000]
    (inward,) = policy["spec"]["ingress"]
    assert [p["port"] for p in inward["ports"]] == [8001]


def test_a_local_chatbots_pods_may_go_nowhere() -> None:
    scene = Scene({"phase": "local", "local": {"source": {"claim": {"name": "mine"}}}})
    scene.apply()
    policy = next(o for r, o in scene.objects.items() if str(r) == "NetworkPolicy chat/demo-backend")
    assert policy["spec"]["egress"] == []
