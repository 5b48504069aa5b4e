"""The real server in this process, with fake models and guards of all kinds, on an event loop of its own."""

import asyncio
import threading
import time

import grpc

from cascade.gateways.surfaces import Surfaces
from cascade.live import Live
from cascade.observe.metrics import Metrics
from cascade.serve.admission import AdmissionSettings
from cascade.serve.config import Config
from cascade.serve.endpoint import Endpoint
from cascade.serve.security import Security
from cascade.serve.server import Server
from tests.fakes import fake_pipeline


class Guarded:
    """A server as ``security`` and ``admission`` say, with a pipeline of fakes and no one to change it.

    ``make``, which runs on the server's event loop, makes it of the other options. With ``http`` it answers HTTP, too.
    """

    def __init__(
        self,
        security=Security(),  # noqa: B008 - frozen
        *,
        admission=AdmissionSettings(),  # noqa: B008 - frozen
        http=False,
        surfaces=None,
        **pipeline,
    ):
        self.metrics = Metrics()
        self._make = pipeline.pop("make", fake_pipeline)
        self._admission, self._surfaces = admission, surfaces or Surfaces()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.address = self._run(self._start(security, http, pipeline))
        except BaseException:
            self._end()
            raise

    def channel(self, credentials=None, **options):
        options = list({**options}.items())
        if credentials is None:
            return grpc.insecure_channel(self.address, options)
        return grpc.secure_channel(self.address, credentials, options)

    def stand_still(self, seconds):
        """Lets the event loop do nothing for a while."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    def stop(self):
        self._run(self._stop())
        self._end()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _start(self, security, http, pipeline):
        self._audit_log = security.open_audit_log()
        self._live = Live(self._make(**pipeline))
        self.pipeline = self._live.pipeline
        endpoint = Endpoint("127.0.0.1", 0, None, 0, http_port=0 if http else None)
        config = Config(
            endpoint, sources=None, load=None, security=security, admission=self._admission, surfaces=self._surfaces
        )
        self._server = Server(config, self.metrics)
        address = self._server.bind(0)
        if http:
            self.http = self._server.bind_http(0)
        await self._server.open(self._live, None, self._audit_log)
        self._server.adopt(self._live.pipeline)
        return address

    async def _stop(self):
        await self._server.close()
        await self._live.close()
        if self._audit_log:
            await asyncio.to_thread(self._audit_log.close)

    def _end(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def metric(metrics, name, **labels):
    """The value of one time series."""
    return metrics.registry.get_sample_value(name, labels)
