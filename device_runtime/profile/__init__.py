"""What one device has learned, in a folder. docs/profile-format.md describes it."""

from fbkit.device_runtime.profile.memory import Limits, Memory
from fbkit.device_runtime.profile.opening import ProfileBusy, changing_profile, find_profile
from fbkit.device_runtime.profile.store import Profile

__all__ = ["Limits", "Memory", "Profile", "ProfileBusy", "changing_profile", "find_profile"]
