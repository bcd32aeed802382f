"""The application: `uvicorn app.main:app`, in the folder above."""
