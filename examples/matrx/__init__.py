"""MATRX: small pictures for devices, drawn by Starlark apps, cached by redlane."""
