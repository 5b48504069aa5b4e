"""A server whose models are fakes, slow or broken on request: for what cannot be seen on a healthy one."""

import argparse
import asyncio
import tempfile
from functools import partial
from pathlib import Path

from cascade.observe import logs
from cascade.serve.admission import AdmissionSettings
from cascade.serve.audit import FileSettings, Fsync
from cascade.serve.auditing import Level
from cascade.serve.config import Config
from cascade.serve.endpoint import Endpoint
from cascade.serve.security import AuditSettings, Security
from cascade.serve.server import serve
from cascade.serve.sources import Sources
from cascade.serve.supervisor import supervise
from tests.fakes import fake_policy
from tests.serve.fake_models import FakeLoad

parser = argparse.ArgumentParser()
parser.add_argument("--delay", type=float, default=0.0, help="seconds that each batch of stage 1 takes, once ready")
parser.add_argument("--slow", type=float, default=0.0, help="seconds that a batch with this word takes")
parser.add_argument("--load-s", type=float, default=0.0, help="seconds that loading takes")
parser.add_argument("--held", default="", help="while this file is there, neither loading nor the word `slow` ends")
parser.add_argument("--drain-s", type=float, default=10.0)
parser.add_argument("--max-queue", type=int, default=1000)
parser.add_argument("--bug", default="", help="an exception with this message comes out of every check but the warm-up")
parser.add_argument("--broken", type=int, default=0, help="1: stage 2 fails always")
parser.add_argument("--alone", type=int, default=0, help="1: no stage 2")
parser.add_argument("--folder", default="", help="model folder of stage 1, see FakeLoad")
parser.add_argument("--policy", type=Path, help="policy file")
parser.add_argument("--state-dir", type=Path)
parser.add_argument("--watch", type=int, default=1, help="0: files are not watched")
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--rate", type=float, help="contents a second of a caller")
parser.add_argument("--http", type=int, default=0, help="1: HTTP, too")
parser.add_argument("--audit", type=Path, help="audit log")
parser.add_argument("--level", type=Level, default=Level.METADATA, help="of the audit log")
parser.add_argument("--fsync", type=Fsync, default=Fsync.INTERVAL, help="of the audit log")
parser.add_argument("--token-file", type=Path)


def main():
    options = parser.parse_args()
    logs.configure("debug")
    given = vars(options)
    load = FakeLoad(**{name: given[name] for name in FakeLoad.__dataclass_fields__})
    with tempfile.TemporaryDirectory() as folder:
        policy = options.policy
        if policy is None:
            policy = Path(folder, "policy.toml")
            policy.write_text(fake_policy().toml)
        audit = None
        if options.audit:
            file = FileSettings(options.audit, fsync=options.fsync)
            audit = AuditSettings(file, options.audit.with_suffix(".salt"), options.level)
        stages = {"stage1": options.folder or "fake"} | ({} if options.alone else {"stage2": "fake"})
        config = Config(
            endpoint=Endpoint("127.0.0.1", 0, 0, options.drain_s, http_port=0 if options.http else None),
            sources=Sources(policy, stages),
            load=load,
            state_dir=options.state_dir,
            watch=bool(options.watch),
            log_level="debug",
            workers=options.workers,
            admission=AdmissionSettings(rate=options.rate),
            security=Security(audit=audit, token_file=options.token_file),
        )
        run = supervise if options.workers > 1 else serve
        asyncio.run(run(config, partial(print, flush=True)))


if __name__ == "__main__":
    main()
