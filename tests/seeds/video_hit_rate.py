# Track cache performance
hits = 0
misses = 0

url = video_cache.get(black, whites)
if url:
    hits += 1
else:
    misses += 1
    
hit_rate = hits / (hits + misses)
print(f"Cache hit rate: {hit_rate:.2%}")
