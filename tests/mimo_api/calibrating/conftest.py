"""Clips that every test here calibrates with."""

from .spoken import manifest as manifest
from .spoken import small_packs as small_packs
