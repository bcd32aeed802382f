from redlane import cache

@cache(ttl=60)  # Cache results for 60 seconds
def expensive_function(user_id):
    # Expensive operation here
    return result
