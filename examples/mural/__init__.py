"""The Mural: a shared 500x500 canvas on Flask, cached by redlane."""
