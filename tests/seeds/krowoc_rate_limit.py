from redlane import RateLimiter

@app.route('/api/endpoint')
@RateLimiter.limit(requests_limit=100, time_window=60)  # 100 requests per minute
def my_api_endpoint():
    # Your API logic here
    return response
