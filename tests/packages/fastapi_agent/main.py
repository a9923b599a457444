"""Serves with FastAPI and uvicorn, on the PORT and HOST that it was given."""

import os

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health():
    return {"status": "healthy"}


@app.get("/info")
def info():
    return {"pid": os.getpid(), "port": int(os.environ["PORT"])}


uvicorn.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ["PORT"]))
