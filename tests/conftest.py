"""What all tests share: hypothesis measures no time, since other work on the machine is no failure of the code."""

from hypothesis import settings

settings.register_profile("ours", deadline=None)
settings.load_profile("ours")
