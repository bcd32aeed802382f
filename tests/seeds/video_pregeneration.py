# Pre-generate videos for popular cards
for combo in popular_combinations:
    if not video_cache.get(combo.black, combo.whites):
        url = await generate_video(combo)
        video_cache.set(combo.black, combo.whites, url, permanent=False)
