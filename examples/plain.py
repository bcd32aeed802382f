"""A cached function, an invalidation and a counter."""

from redlane import Cache

cache = Cache()  # REDIS_URL, else localhost:6379, else the embedded engine


@cache(ttl=60)  # seconds
def square(number):
    print("computing", number)
    return number * number


print(square(7))  # computing 7, then 49
print(square(number=7))  # 49, from the cache: it is the same call
print(square.cache_key(7))  # cache:square:plain:7

square.invalidate(7)
print(square(7))  # computing 7, then 49

visits = cache.increment("visits", ttl=3600)
print("visit", visits)
