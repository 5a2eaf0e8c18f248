"""The blocks `spec.expose`, `spec.access` and `spec.privacy`: who reaches the chatbot, and where prompts may go.

Knows nothing of Services, routes or network policies.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from chatbot_operator.api.base import NAME_PATTERN, Block, ObjectName, Rule, key_rules, ruled


class GatewayRef(Block):
    """The Gateway that an HTTPRoute is attached to."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field(description="Name of the Gateway.", examples=["public"])
    namespace: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        pattern=NAME_PATTERN,
        description="Namespace of the Gateway, whose listener must allow the route. Default: the Chatbot's.",
        examples=["gateways"],
    )


class Expose(Block):
    """How people reach the chatbot."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.host) || has(self.gatewayRef) != has(self.ingressClassName)",
                "expose.host needs exactly one of expose.gatewayRef (HTTPRoute) and expose.ingressClassName (Ingress).",
            ),
            Rule(
                "has(self.host) || !has(self.gatewayRef) && !has(self.ingressClassName)",
                "expose.gatewayRef and expose.ingressClassName do nothing without expose.host: set expose.host or "
                "remove them.",
            ),
            Rule(
                "!has(self.tlsSecretName) || has(self.ingressClassName)",
                "expose.tlsSecretName needs expose.ingressClassName: with a Gateway the certificate belongs to the "
                "Gateway's listener.",
                ".tlsSecretName",
            ),
        )
    )

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP",
        description="Type of the public Service. ClusterIP is reached from inside the cluster only.",
    )
    port: int = Field(80, ge=1, le=65_535, description="Port of the public Service.")
    annotations: Mapping[
        str, Annotated[str, Field(max_length=500, description="Value of one annotation.", examples=["public"])]
    ] = Field(
        {},
        max_length=16,
        description="Annotations of the outermost object: the Ingress or HTTPRoute if there is one, else the Service. "
        "Default: none.",
        examples=[{"example.com/pool": "public"}],
        json_schema_extra=ruled(*key_rules("expose.annotations")),
    )
    load_balancer_class: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Implementation of the load balancer; fixed while type is LoadBalancer. Default: the cluster's.",
        examples=["example.com/internal"],
    )
    load_balancer_source_ranges: tuple[
        Annotated[
            str,
            Field(
                max_length=50,
                description="One range, in CIDR notation.",
                examples=["203.0.113.0/24"],
                json_schema_extra=ruled(
                    Rule("isCIDR(self)", "expose.loadBalancerSourceRanges takes ranges such as 203.0.113.0/24.")
                ),
            ),
        ],
        ...,
    ] = Field(
        (),
        max_length=50,
        description="Client addresses that the load balancer lets in, in CIDR notation. Default: all.",
        examples=[["203.0.113.0/24"]],
    )
    external_traffic_policy: Literal["Local", "Cluster"] = Field(
        "Local",
        description="Local keeps the addresses of clients apart; Cluster spreads connections over all nodes and hides "
        "them.",
    )
    host: str | None = Field(
        None,
        max_length=253,
        pattern=NAME_PATTERN,
        description="Host name. Makes an HTTPRoute (with gatewayRef) or an Ingress (with ingressClassName). "
        "Default: none.",
        examples=["chat.example.com"],
    )
    gateway_ref: GatewayRef | None = Field(
        None, description="Gateway of the HTTPRoute. Default: none.", examples=[{"name": "public"}]
    )
    ingress_class_name: ObjectName | None = Field(
        None, description="Class of the Ingress. Default: none.", examples=["nginx"]
    )
    tls_secret_name: ObjectName | None = Field(
        None,
        description="Secret with the certificate of the Ingress. Default: none, plain HTTP.",
        examples=["chat-tls"],
    )


class KeysSecretRef(Block):
    """The Secret that holds the API keys of the clients."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field(description="Name of the Secret, in the Chatbot's namespace.", examples=["chat-keys"])


class Access(Block):
    """Who may use the chatbot, and how much."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.mode) || self.mode != 'APIKey' || has(self.keysSecretRef)",
                "access.keysSecretRef is required with access.mode: APIKey.",
                ".keysSecretRef",
                "FieldValueRequired",
            )
        )
    )

    mode: Literal["APIKey", "Anonymous"] | None = Field(
        None,
        description="APIKey: clients send a key of keysSecretRef. Anonymous: anybody may ask. It must be stated for "
        "anything that is reachable from outside the cluster; inside it, the default is Anonymous.",
    )
    keys_secret_ref: KeysSecretRef | None = Field(
        None,
        description="Secret with the API keys: every key of its data is the name of a client, the value its API key. "
        "Default: none.",
        examples=[{"name": "chat-keys"}],
    )
    requests_per_minute: int = Field(
        60, ge=1, le=100_000, description="Requests that one client may send to one pod in a minute."
    )
    concurrent_requests: int = Field(
        4, ge=1, le=1000, description="Requests of one client that one pod answers at the same time."
    )
    trusted_hops: int = Field(
        0, ge=0, le=10, description="Number of proxies in front whose X-Forwarded-For header is believed."
    )
    cors_origins: tuple[
        Annotated[str, Field(max_length=300, description="One origin.", examples=["https://www.example.com"])], ...
    ] = Field(
        (),
        max_length=10,
        description="Origins whose pages may call the API from a browser, at most 10. Default: none.",
        examples=[["https://www.example.com"]],
        json_schema_extra=ruled(
            Rule(
                "self.all(o, o.matches('^https?://[^ /?#@]+$'))",
                "access.corsOrigins takes origins such as https://www.example.com: scheme and host, no path.",
            )
        ),
    )


class Privacy(Block):
    """Where prompts may go."""

    external_inference: Literal["Allowed", "Forbidden"] = Field(
        "Allowed",
        description="Forbidden: phase hf is refused, and network policies close the way out.",
    )
