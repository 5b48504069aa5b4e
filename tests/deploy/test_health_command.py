"""``cascade health``: what probes run."""

import subprocess

import pytest
import trustme

from tests.serve.conftest import COMMAND, ServerProcess, environment


def health(*arguments, folder):
    command = [*COMMAND, "health", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=90
    )


def test_a_server_that_serves_is_told_so(deployed, tmp_path):
    done = health("--server", f"127.0.0.1:{deployed.port}", "--service", "stage2", "--timeout-s", "60", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "SERVING\n"), done.stderr


@pytest.mark.parametrize(("arguments", "said"), [([], "UNAVAILABLE"), (["--service", "stage3"], "NOT_FOUND")])
def test_where_nobody_serves_the_exit_code_is_1(arguments, said, deployed, tmp_path):
    port = deployed.port if arguments else 1
    done = health("--server", f"127.0.0.1:{port}", *arguments, "--timeout-s", "60", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"cascade: grpc://127.0.0.1:{port}: {said}\n"


def test_a_probe_on_loopback_accepts_the_certificate_by_its_name(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("cascade.prod.svc")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    flags = ["--tls-cert", "tls.pem", "--tls-key", "tls.key", "--tls-client-ca", "ca.pem", "--stage2", "none"]
    server = ServerProcess([*COMMAND, "serve", "--port", "0", *flags], tmp_path)
    try:
        place = f"grpcs://127.0.0.1:{server.port}?ca=ca.pem&cert=tls.pem&key=tls.key"
        named = health("--server", f"{place}&name=cascade.prod.svc", "--timeout-s", "60", folder=tmp_path)
        unnamed = health("--server", place, "--timeout-s", "5", folder=tmp_path)
    finally:
        server.close()
    assert (named.returncode, named.stdout) == (0, "SERVING\n"), named.stderr
    assert unnamed.returncode == 1
