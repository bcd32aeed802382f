"""The videocache service."""
