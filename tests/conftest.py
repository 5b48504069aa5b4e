"""What all tests share: hypothesis sets no deadline, which a busy machine would miss, and in CI draws no lots."""

import os

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")
