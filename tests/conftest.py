"""Settings of Hypothesis for all tests."""

from hypothesis import settings

# No test measures time: a busy machine takes long for any example.
settings.register_profile("punway", deadline=None)
settings.load_profile("punway")
