"""The command ``cascade`` with fake models; each batch takes FAKE_DELAY_S seconds."""

import os
from unittest import mock

from cascade.cli import main
from tests.fakes import FakeStage, fake_pipeline

delay = float(os.environ.get("FAKE_DELAY_S", "0"))
pipeline = fake_pipeline(FakeStage("tinysafe", delay_s=delay))
with mock.patch("cascade.build.build_pipeline", return_value=pipeline):
    main()
