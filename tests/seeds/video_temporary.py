# Cache frequently played combos for 24h
video_cache.set(
    black_card=black,
    white_cards=whites,
    video_url=url,
    permanent=False  # Expires in 24h
)
