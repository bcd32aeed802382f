"""A service of generated videos: uvicorn app.main:socket_app, from this folder."""
