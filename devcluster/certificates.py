"""Makes the cluster's certificate authorities, certificates and kubeconfig files. It must not start anything.

Three authorities, as in Kubernetes' own set-ups: for servers, for clients, for the aggregator's front proxy.
Authorities stay between starts, so a copied kubeconfig goes on working; everything below them is made anew each time.
"""

import base64
import datetime as dt
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.layout import Layout

VALIDITY = dt.timedelta(days=90)
# Clocks of a virtual machine that was just resumed may be behind.
BACKDATED = dt.timedelta(hours=1)
METRICS_SERVICE_NAME = "metrics.kube-system.svc"
API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, from its first moment on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_pair(folder: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write_private(folder / f"{stem}.key", _pem(key))
    (folder / f"{stem}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + VALIDITY)
    )


def _authority(folder: Path, stem: str) -> _Authority:
    """The authority kept in `folder`, made anew if there is none or less than half of its life is left."""
    if (folder / f"{stem}.crt").exists():
        certificate = x509.load_pem_x509_certificate((folder / f"{stem}.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{stem}.key").read_bytes(), None)
        fresh = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC) > VALIDITY / 2
        if fresh and isinstance(key, ec.EllipticCurvePrivateKey):
            return _Authority(key, certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(stem), _name(stem), key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(folder, stem, key, certificate)
    return _Authority(key, certificate)


def _leaf(
    folder: Path,
    stem: str,
    issuer: _Authority,
    common_name: str,
    organization: str = "",
    *,
    server: bool = False,
    dns: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(common_name, organization), issuer.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    if dns or addresses:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write_pair(folder, stem, key, builder.sign(issuer.key, hashes.SHA256()))


def kubeconfig(api_url: str, user: str, authority: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig with everything inside, as JSON (which is YAML, and any client reads it)."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster = {"server": api_url, "certificate-authority-data": encoded(authority)}
    credentials = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "devcluster",
            "clusters": [{"name": "devcluster", "cluster": cluster}],
            "contexts": [{"name": "devcluster", "context": {"cluster": "devcluster", "user": user}}],
            "users": [{"name": user, "user": credentials}],
        },
        indent=1,
    )


def _service_account_key(folder: Path) -> None:
    if (folder / "service-account.key").exists():
        return
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(folder / "service-account.key", _pem(key))
    (folder / "service-account.pub").write_bytes(public)


def _client_kubeconfig(layout: Layout, issuer: _Authority, name: str, user: str, organization: str, path: Path) -> None:
    _leaf(layout.pki, name, issuer, user, organization)
    parts = [(layout.pki / file).read_bytes() for file in ("server-ca.crt", f"{name}.crt", f"{name}.key")]
    write_private(path, kubeconfig(layout.api_url, user, *parts).encode())


def make_all(layout: Layout) -> None:
    """Write every certificate, key and kubeconfig of the cluster; only the owner can read the keys."""
    folder = layout.pki
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.component_kubeconfig("").mkdir(exist_ok=True, mode=0o700)
    server, client, front = (_authority(folder, stem) for stem in ("server-ca", "client-ca", "front-proxy-ca"))
    _service_account_key(folder)
    own = ("127.0.0.1", layout.host_address)
    _leaf(
        folder, "apiserver", server, "kube-apiserver", server=True, dns=API_SERVER_NAMES,
        addresses=(*own, layout.first_service_address),
    )  # fmt: skip
    _leaf(folder, "addons", server, "addons", server=True, dns=(METRICS_SERVICE_NAME,), addresses=own)
    _leaf(folder, "apiserver-kubelet", client, "kube-apiserver")
    _leaf(folder, "front-proxy", front, "front-proxy-client")
    users = {
        "controller-manager": ("system:kube-controller-manager", ""),
        "scheduler": ("system:kube-scheduler", ""),
        "addons-client": ("system:addons", "system:masters"),
    }
    if layout.level == "node":
        users |= {"kube-proxy": ("system:kube-proxy", ""), "coredns": ("system:coredns", "")}
    for name, (user, organization) in users.items():
        _client_kubeconfig(layout, client, name, user, organization, layout.component_kubeconfig(name))
    _client_kubeconfig(layout, client, "admin", "kubernetes-admin", "system:masters", layout.kubeconfig)
    for index in layout.node_indices:
        make_node(layout, index)


def make_node(layout: Layout, index: int) -> None:
    """Write the certificates and the kubeconfig of one node's kubelet."""
    server, client = (_authority(layout.pki, stem) for stem in ("server-ca", "client-ca"))
    name, address = f"node{index}", layout.node_address(index)
    # The Node authorizer knows a kubelet by exactly this user and group.
    user = f"system:node:{name}"
    _leaf(layout.pki, f"{name}-serving", server, user, server=True, dns=(name,), addresses=(address,))
    _client_kubeconfig(layout, client, name, user, "system:nodes", layout.component_kubeconfig(name))
