"""The blocks `spec.network` and `spec.pods`: what is the same for all pods of one chatbot.

Knows nothing of pod templates.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from chatbot_operator.api.base import Block, DataKey, ObjectName, Rule, key_rules, ruled, url_rules


class CaBundleConfigMapRef(Block):
    """The ConfigMap that holds certificates to trust."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field(description="Name of the ConfigMap, in the Chatbot's namespace.", examples=["company-ca"])
    key: DataKey = Field("ca.crt", description="Key of the ConfigMap whose value is a list of PEM certificates.")


class Network(Block):
    """Proxies and certificates for what leaves the cluster."""

    model_config = ConfigDict(
        json_schema_extra=ruled(*url_rules("network", "httpProxy"), *url_rules("network", "httpsProxy"))
    )

    http_proxy: str | None = Field(
        None,
        max_length=500,
        description="Proxy for http:// addresses, as a URL without password. Default: none.",
        examples=["http://proxy.example.com:3128"],
    )
    https_proxy: str | None = Field(
        None,
        max_length=500,
        description="Proxy for https:// addresses, as a URL without password. Default: none.",
        examples=["http://proxy.example.com:3128"],
    )
    no_proxy: str | None = Field(
        None,
        max_length=1000,
        description="Hosts that are reached without the proxy, separated by commas. Default: none.",
        examples=[".svc,.cluster.local"],
    )
    ca_bundle_config_map_ref: CaBundleConfigMapRef | None = Field(
        None,
        description="ConfigMap with certificates to trust beside the public ones. Default: none.",
        examples=[{"name": "company-ca"}],
    )


class ImagePullSecret(Block):
    """A Secret with the login of a registry."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field(description="Name of the Secret, in the Chatbot's namespace.", examples=["registry-login"])


class Toleration(Block):
    """A taint that the pods tolerate, as in a Pod."""

    key: str | None = Field(
        None, max_length=317, description="Key of the taint. Default: every key.", examples=["example.com/chat"]
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        None, description="How key and value are compared. Default: Equal."
    )
    value: str | None = Field(None, max_length=63, description="Value of the taint. Default: empty.", examples=["yes"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Default: every effect."
    )
    toleration_seconds: int | None = Field(
        None,
        description="How long a NoExecute taint is tolerated, in seconds. Default: for ever.",
        examples=[60],
    )


class TopologySpreadConstraint(Block):
    """How pods are spread over the cluster, as in a Pod; the operator adds the selector."""

    max_skew: int = Field(ge=1, le=100, description="Largest difference of pods between two domains.", examples=[1])
    topology_key: str = Field(
        min_length=1,
        max_length=317,
        description="Label of nodes whose values are the domains.",
        examples=["topology.kubernetes.io/zone"],
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What happens to a pod for which the spread cannot be kept."
    )


class Pods(Block):
    """What is the same for all pods of the chatbot."""

    image_registry: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Prefix of every default image, for mirrors and closed networks. Default: none.",
        examples=["registry.example.com"],
    )
    image_pull_secrets: tuple[
        Annotated[ImagePullSecret, Field(description="One Secret.", examples=[{"name": "registry-login"}])], ...
    ] = Field(
        (),
        max_length=8,
        description="Secrets with registry logins for image pulls. Default: none.",
        examples=[[{"name": "registry-login"}]],
    )
    node_selector: Mapping[
        str, Annotated[str, Field(max_length=63, description="Value of one label.", examples=["chat"])]
    ] = Field(
        {},
        max_length=16,
        description="Labels that a node must have. Default: none.",
        examples=[{"example.com/pool": "chat"}],
    )
    tolerations: tuple[
        Annotated[
            Toleration,
            Field(description="One toleration.", examples=[{"key": "example.com/chat", "operator": "Exists"}]),
        ],
        ...,
    ] = Field(
        (),
        max_length=16,
        description="Taints of nodes that the pods tolerate. Default: none.",
        examples=[[{"key": "example.com/chat", "operator": "Exists"}]],
    )
    topology_spread_constraints: tuple[
        Annotated[
            TopologySpreadConstraint,
            Field(
                description="One constraint.",
                examples=[
                    {
                        "maxSkew": 1,
                        "topologyKey": "topology.kubernetes.io/zone",
                        "whenUnsatisfiable": "ScheduleAnyway",
                    }
                ],
            ),
        ],
        ...,
    ] = Field(
        (),
        max_length=4,
        description="How the pods are spread. Default: over nodes, where that is possible.",
        examples=[
            [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}]
        ],
    )
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pods. Default: the cluster's default.", examples=["high"]
    )
    labels: Mapping[str, Annotated[str, Field(max_length=63, description="Value of one label.", examples=["chat"])]] = (
        Field(
            {},
            max_length=16,
            description="Labels of the pods beside the operator's. Default: none.",
            examples=[{"team": "support"}],
            json_schema_extra=ruled(
                *key_rules("pods.labels"),
                Rule(
                    "self.all(k, !format.labelValue().validate(self[k]).hasValue())",
                    "pods.labels: every value must be a label value: at most 63 letters, digits, '-', '_' or '.'.",
                ),
            ),
        )
    )
    annotations: Mapping[
        str, Annotated[str, Field(max_length=500, description="Value of one annotation.", examples=["any text"])]
    ] = Field(
        {},
        max_length=16,
        description="Annotations of the pods beside the operator's. Default: none.",
        examples=[{"example.com/note": "any text"}],
        json_schema_extra=ruled(*key_rules("pods.annotations")),
    )
