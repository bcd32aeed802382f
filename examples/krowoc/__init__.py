"""Flask utilities on Redis: caching, events, rate limits: `krowoc.app:create_app()`."""
