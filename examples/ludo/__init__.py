"""Ludo for two to four players on FastAPI, on Redis, Upstash or the memory engine."""
