# Cache misses fall back to authoritative canvas_data
# System self-heals on next cache rebuild
cached_canvas = None  # Cache miss
return jsonify(canvas_data)  # Always works
