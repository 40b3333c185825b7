"""Serve a classifier on this machine (pip install 'rehead[serve]'), ask it over HTTP, and stop the server."""

import json
import subprocess
import sys
from urllib.request import Request, urlopen

import rehead

rehead.fit("sample:sms", rehead.Classifier("tfidf"), "spam-model")
command = [sys.executable, "-m", "rehead.cli", "serve", "spam-model", "--port", "0", "--jobs", "spam-jobs"]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
    # The log has a JSON object a line; one of them says at which address the server listens.
    log = (json.loads(line) for line in server.stderr)
    address = next(entry["address"] for entry in log if entry["event"] == "listening")
    try:
        question = {"texts": ["You have WON a prize! Call 09061701461 now", "See you at the station"], "explain": True}
        request = Request(f"{address}/v1/predict", json.dumps(question).encode(), {"Content-Type": "application/json"})
        with urlopen(request) as response:
            reply = json.load(response)
        for text, prediction in zip(question["texts"], reply["predictions"], strict=True):
            strongest = max(prediction["pieces"], key=lambda piece: piece["weight"])
            because = text[strongest["start"] : strongest["end"]]
            print(f"{prediction['label']}: {text} (most of all because of {because!r})")
    finally:
        server.terminate()
